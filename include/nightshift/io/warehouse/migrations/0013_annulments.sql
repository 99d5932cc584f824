-- A decision by hand can be annulled by another row, which names it: the table stays append-only.

ALTER TABLE {schema}.deployments
    DROP CONSTRAINT deployments_action_check,
    ADD COLUMN annuls bigint REFERENCES {schema}.deployments,
    ADD CONSTRAINT deployments_annulled_once UNIQUE (annuls),
    ADD CONSTRAINT deployments_action_check CHECK (action IN (
        'registered', 'rejected', 'failed', 'backtest_failed', 'shadow', 'canary', 'awaiting_approval', 'approved',
        'declined', 'approval_timed_out', 'promoted', 'confirmed', 'withdrawn', 'rolled_back', 'held', 'killed',
        'restored', 'retired', 'annulled')),
    ADD CONSTRAINT deployments_annulment_names_a_decision CHECK ((action = 'annulled') = (annuls IS NOT NULL));
COMMENT ON COLUMN {schema}.deployments.annuls IS 'The decision that this row annuls: it has no effect on partitions after the one of this row.';
