-- Read one route. Argument: project id.
-- Returns the route as it is stored if there is one.
return {(standing(ARGV[4]))}
