-- Read the relays. Returns the entries as one JSON array.
return {'[' .. table.concat(redis.call('HVALS', RELAYS), ',') .. ']'}
