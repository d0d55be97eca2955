-- Read what of a project waits. Argument: project id.
-- Returns count, bytes, and since when the first waits.
return backlog(ARGV[5])
