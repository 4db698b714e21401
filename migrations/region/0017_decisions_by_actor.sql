-- domicile:phase expand
-- domicile:level 17
-- no-transaction
-- Finds the decisions of one actor, newest first, without reading everybody's. The index of decisions is filled behind the
-- log, so no commit waits for this.
CREATE INDEX CONCURRENTLY IF NOT EXISTS decision_index_actor ON domicile.decision_index (actor, seq);
