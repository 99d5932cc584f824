-- The pipeline itself: how long each step took, how much it wrote, and what each feed delivered.

CREATE TABLE {schema}.pipeline_daily (
    partition date NOT NULL,
    stage text NOT NULL,
    step text NOT NULL,
    variant text NOT NULL,
    status text NOT NULL CHECK (status IN ('published', 'rejected')),
    started_at timestamptz,
    seconds double precision,
    tries integer,
    rows bigint,
    bytes bigint,
    dag_id text,
    run_id text,
    artifact_uri text,
    PRIMARY KEY (partition, step, variant)
);
COMMENT ON TABLE {schema}.pipeline_daily IS 'One row per step of a partition, and per spec where a step runs once for each: the run that wrote the artifact that counts. Recorded by check_drift, for the week up to its partition.';
COMMENT ON COLUMN {schema}.pipeline_daily.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.pipeline_daily.variant IS 'Spec id of a step that runs for several specs, month of a month of training rows; else empty.';
COMMENT ON COLUMN {schema}.pipeline_daily.status IS 'rejected: the step left no artifact that counts, and the other columns are null.';
COMMENT ON COLUMN {schema}.pipeline_daily.started_at IS 'When the successful try began (an instant, stored as UTC).';
COMMENT ON COLUMN {schema}.pipeline_daily.seconds IS 'Wall clock of the successful try up to its artifact, without waiting for a slot and without earlier tries [s].';
COMMENT ON COLUMN {schema}.pipeline_daily.tries IS 'Number of the successful try; 0 if no orchestrator ran it.';
COMMENT ON COLUMN {schema}.pipeline_daily.rows IS 'Rows that the step states for its artifact; 0 where rows have no meaning.';
COMMENT ON COLUMN {schema}.pipeline_daily.bytes IS 'Size of the artifact''s files [bytes].';
COMMENT ON COLUMN {schema}.pipeline_daily.run_id IS 'Orchestrator''s run; empty if none ran it.';
COMMENT ON COLUMN {schema}.pipeline_daily.artifact_uri IS 'Artifact in the object store; its manifest has host, inputs and library versions.';

CREATE TABLE {schema}.feeds_daily (
    partition date NOT NULL,
    feed text NOT NULL,
    delivery date,
    files integer NOT NULL,
    delivered bigint NOT NULL,
    duplicates bigint NOT NULL,
    published bigint,
    quarantined bigint,
    PRIMARY KEY (partition, feed)
);
COMMENT ON TABLE {schema}.feeds_daily IS 'What each feed delivered to a partition. delivered = duplicates + published + quarantined.';
COMMENT ON COLUMN {schema}.feeds_daily.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.feeds_daily.delivery IS 'Newest delivery that was read (dt=): the partition''s own, or of a snapshot feed an earlier one. Null if the feed is no landed delivery.';
COMMENT ON COLUMN {schema}.feeds_daily.files IS 'Landed files, repeated ones included.';
COMMENT ON COLUMN {schema}.feeds_daily.delivered IS 'Rows in the landed files.';
COMMENT ON COLUMN {schema}.feeds_daily.duplicates IS 'Exact duplicates, which were dropped.';
COMMENT ON COLUMN {schema}.feeds_daily.published IS 'Rows published; null if the partition was rejected or is not decided.';
COMMENT ON COLUMN {schema}.feeds_daily.quarantined IS 'Rows in quarantine; null if the partition was rejected or is not decided.';
