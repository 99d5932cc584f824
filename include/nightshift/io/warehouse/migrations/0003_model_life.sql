-- The life of a model: trials beside the model that serves, approvals, decisions by hand, gates per candidate.

ALTER TABLE {schema}.deployments
    DROP CONSTRAINT deployments_action_check,
    DROP CONSTRAINT deployments_role_check,
    DROP CONSTRAINT deployments_check,
    ADD CONSTRAINT deployments_action_check CHECK (action IN (
        'bootstrap', 'failed', 'rejected', 'shelved', 'held', 'awaiting_approval', 'approved', 'declined',
        'approval_timed_out', 'shadow', 'canary', 'promoted', 'confirmed', 'withdrawn', 'rolled_back', 'killed',
        'restored', 'retired')),
    ADD CONSTRAINT deployments_role_check CHECK (role IN ('champion', 'challenger', 'fallback')),
    ADD CONSTRAINT deployments_name_a_model CHECK (
        action NOT IN ('bootstrap', 'shadow', 'canary', 'promoted', 'rolled_back') OR model IS NOT NULL);

COMMENT ON TABLE {schema}.deployments IS 'Append-only: what was decided about which model, when, why and by whom. Which model serves follows from all rows.';
COMMENT ON COLUMN {schema}.deployments.partition IS 'Partition that decided; a decision takes effect for later partitions.';
COMMENT ON COLUMN {schema}.deployments.replaces IS 'Version of the champion that a promoted or rolled back model takes over from; null if there was none.';
COMMENT ON COLUMN {schema}.deployments.decided_by IS 'Step that decided, or hand:<user>. Of what one step said for one partition the last row counts.';

ALTER TABLE {schema}.publications
    DROP CONSTRAINT publications_role_check,
    ADD CONSTRAINT publications_role_check CHECK (role IN ('champion', 'challenger', 'fallback'));
COMMENT ON COLUMN {schema}.publications.role IS 'In which role the model answered: champion, fallback, or challenger where a night was switched to it.';
COMMENT ON COLUMN {schema}.publications.model_version IS 'Model that serves; rows of a canary name their own in predictions.';

ALTER TABLE {schema}.gate_results ADD COLUMN candidate text NOT NULL DEFAULT '';
ALTER TABLE {schema}.gate_results DROP CONSTRAINT gate_results_pkey;
ALTER TABLE {schema}.gate_results ADD PRIMARY KEY (partition, model_version, candidate, gate);
COMMENT ON COLUMN {schema}.gate_results.candidate IS 'Candidate of the training the gate was asked about; empty if unnamed.';

CREATE TABLE {schema}.shadow_predictions (
    partition date NOT NULL,
    {key_definitions},
    stage text NOT NULL CHECK (stage IN ('shadow', 'canary', 'standby')),
    serving_version text NOT NULL,
    beside_version text NOT NULL,
    serving_score double precision NOT NULL CHECK (serving_score >= 0 AND serving_score <= 1),
    beside_score double precision NOT NULL CHECK (beside_score >= 0 AND beside_score <= 1),
    published boolean NOT NULL,
    PRIMARY KEY (partition, {key})
);
COMMENT ON TABLE {schema}.shadow_predictions IS 'Both answers of each night on which a model was scored beside the one that serves.';
COMMENT ON COLUMN {schema}.shadow_predictions.partition IS {partition_comment};
COMMENT ON COLUMN {schema}.shadow_predictions.stage IS 'Why it was scored: challenger in shadow or as a canary, or former champion standing by.';
COMMENT ON COLUMN {schema}.shadow_predictions.published IS 'Whether the score published for this row is the one of the model beside.';

CREATE TABLE {schema}.trial_nights (
    partition date NOT NULL,
    night date NOT NULL,
    stage text NOT NULL CHECK (stage IN ('shadow', 'canary', 'standby')),
    challenger text NOT NULL,
    incumbent text NOT NULL,
    rows bigint NOT NULL,
    challenger_log_loss double precision NOT NULL,
    incumbent_log_loss double precision NOT NULL,
    difference double precision NOT NULL,
    decision text NOT NULL,
    PRIMARY KEY (partition, night)
);
COMMENT ON TABLE {schema}.trial_nights IS 'The nights that each judgement of a trial counted.';
COMMENT ON COLUMN {schema}.trial_nights.partition IS 'Partition whose outcomes were the last ones judged by.';
COMMENT ON COLUMN {schema}.trial_nights.night IS 'Partition whose predictions are compared.';
COMMENT ON COLUMN {schema}.trial_nights.challenger IS 'Version that is judged; the fresh champion while its predecessor stands by.';
COMMENT ON COLUMN {schema}.trial_nights.incumbent IS 'Version it is compared with.';
COMMENT ON COLUMN {schema}.trial_nights.rows IS 'Predictions of that night with a known outcome.';
COMMENT ON COLUMN {schema}.trial_nights.difference IS 'Log loss of the challenger minus that of the incumbent, in nats; positive: the challenger did worse.';
COMMENT ON COLUMN {schema}.trial_nights.decision IS 'What the judgement decided.';
