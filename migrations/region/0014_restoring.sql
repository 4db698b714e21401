-- domicile:phase expand
-- domicile:level 14
-- A database that was restored from a backup and is not open yet names the backup here. Gateways refuse it, older ones
-- too, since its system identifier is that of no cluster meanwhile: what was erased since the backup was taken has to go
-- first, and the log has to be reconciled with what others have seen of it.
ALTER TABLE domicile.region_identity ADD COLUMN restoring text;
