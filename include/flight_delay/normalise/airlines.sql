SELECT carrier, name, landed_uri, landed_row
FROM landed
