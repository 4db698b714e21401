-- domicile:phase expand
-- domicile:level 18
-- no-transaction
-- Finds what was denied or went wrong, which is rare, without reading all that was allowed.
CREATE INDEX CONCURRENTLY IF NOT EXISTS decision_index_not_allowed ON domicile.decision_index (outcome, seq)
    WHERE outcome <> 'allow';
