SELECT
    tailnum,
    year AS year_built,
    type,
    manufacturer,
    model,
    engines,
    seats,
    engine,
    landed_uri,
    landed_row
FROM landed
