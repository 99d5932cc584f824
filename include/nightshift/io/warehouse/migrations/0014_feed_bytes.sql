ALTER TABLE {schema}.feeds_daily ADD COLUMN bytes bigint;
COMMENT ON COLUMN {schema}.feeds_daily.bytes IS 'Size of the landed files that were read, as delivered. Null if the feed is no landed delivery, and of partitions landed by an earlier version.';
