-- Published predictions, who may have changed them, and which model was in charge.

CREATE TABLE {schema}.predictions (
    {key_definitions},
    {extra_definitions}
    {score} double precision NOT NULL CONSTRAINT score_is_a_probability CHECK ({score} >= 0 AND {score} <= 1),
    decision boolean NOT NULL,
    model_version text NOT NULL,
    publish_id text NOT NULL,
    predicted_at timestamptz NOT NULL,
    PRIMARY KEY ({key})
) PARTITION BY RANGE ({prediction_date});

COMMENT ON TABLE {schema}.predictions IS {predictions_comment};
COMMENT ON COLUMN {schema}.predictions.{score} IS {score_comment};
COMMENT ON COLUMN {schema}.predictions.decision IS {decision_comment};
COMMENT ON COLUMN {schema}.predictions.model_version IS 'Model that answered: <training partition>-<first 8 hex digits of its hash>; see deployments.';
COMMENT ON COLUMN {schema}.predictions.publish_id IS 'The publication these rows belong to; see publications.';
COMMENT ON COLUMN {schema}.predictions.predicted_at IS 'When the publication was written (an instant, stored as UTC).';
{prediction_column_comments}

CREATE TABLE {schema}.publications (
    publish_id text PRIMARY KEY,
    partition date NOT NULL,
    prediction_date date NOT NULL,
    model_version text NOT NULL,
    role text NOT NULL CHECK (role IN ('champion', 'fallback')),
    model_uri text NOT NULL,
    model_sha256 text NOT NULL,
    scores_uri text NOT NULL,
    scores_sha256 text NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    dag_id text NOT NULL,
    run_id text NOT NULL,
    published_at timestamptz NOT NULL,
    superseded_at timestamptz,
    current boolean GENERATED ALWAYS AS (superseded_at IS NULL) STORED
);
CREATE UNIQUE INDEX publications_one_per_partition ON {schema}.publications (partition) WHERE superseded_at IS NULL;
CREATE UNIQUE INDEX publications_one_per_day ON {schema}.publications (prediction_date) WHERE superseded_at IS NULL;

COMMENT ON TABLE {schema}.publications IS 'One row per distinct night of predictions ever published; the current one of each partition is what predictions holds.';
COMMENT ON COLUMN {schema}.publications.publish_id IS 'SHA-256 over the partition, the model''s hash and the hash of the scores.';
COMMENT ON COLUMN {schema}.publications.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.publications.prediction_date IS {prediction_date_comment};
COMMENT ON COLUMN {schema}.publications.role IS 'Whether the champion or the fallback model answered.';
COMMENT ON COLUMN {schema}.publications.model_uri IS 'Artifact of the model in the object store.';
COMMENT ON COLUMN {schema}.publications.scores_uri IS 'Artifact the rows were copied from; its manifest leads back to the landed files.';
COMMENT ON COLUMN {schema}.publications.dag_id IS 'Orchestrator''s DAG that published; empty if none did.';
COMMENT ON COLUMN {schema}.publications.run_id IS 'Orchestrator''s run that published; empty if none did.';
COMMENT ON COLUMN {schema}.publications.published_at IS 'When these rows became the ones readers see (an instant, stored as UTC).';
COMMENT ON COLUMN {schema}.publications.superseded_at IS 'When another publication of the partition replaced them; null while current.';

CREATE TABLE {schema}.deployments (
    deployment_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition date NOT NULL,
    action text NOT NULL CHECK (action IN ('promoted', 'rejected', 'failed', 'bootstrap')),
    role text NOT NULL CHECK (role IN ('champion', 'fallback')),
    model_version text NOT NULL,
    model jsonb,
    model_uri text GENERATED ALWAYS AS (model ->> 'uri') STORED,
    model_sha256 text GENERATED ALWAYS AS (model ->> 'sha256') STORED,
    replaces text,
    reason jsonb NOT NULL,
    decided_by text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
    CHECK (action NOT IN ('promoted', 'bootstrap') OR model IS NOT NULL)
);
CREATE INDEX deployments_by_partition ON {schema}.deployments (role, partition, deployment_id);

CREATE FUNCTION {schema}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: record another row instead', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER deployments_append_only BEFORE UPDATE OR DELETE ON {schema}.deployments
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_change();
CREATE TRIGGER deployments_no_truncate BEFORE TRUNCATE ON {schema}.deployments
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();

COMMENT ON TABLE {schema}.deployments IS 'Append-only: which model was promoted, rejected or put in place, when, why and by whom.';
COMMENT ON COLUMN {schema}.deployments.partition IS 'Training partition that decided; a promoted champion serves every later partition until replaced.';
COMMENT ON COLUMN {schema}.deployments.model IS 'Reference to the model''s artifact: uri, sha256, kind, rows, schema_version.';
COMMENT ON COLUMN {schema}.deployments.replaces IS 'Version of the model it took over from; null if there was none.';
COMMENT ON COLUMN {schema}.deployments.reason IS 'The numbers and bounds that decided.';
COMMENT ON COLUMN {schema}.deployments.decided_by IS 'Gate or person that decided.';
COMMENT ON COLUMN {schema}.deployments.decided_at IS 'When the row was written (an instant, stored as UTC).';

CREATE TABLE {schema}.gate_results (
    partition date NOT NULL,
    model_version text NOT NULL,
    gate text NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('pass', 'fail', 'not applicable')),
    observed double precision,
    bound double precision,
    reason text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, model_version, gate)
);
COMMENT ON TABLE {schema}.gate_results IS 'What each gate said about each candidate model: the number observed and the bound it had to keep.';
COMMENT ON COLUMN {schema}.gate_results.partition IS 'Training partition of the candidate.';
COMMENT ON COLUMN {schema}.gate_results.recorded_at IS 'When the row was last changed (an instant, stored as UTC).';
