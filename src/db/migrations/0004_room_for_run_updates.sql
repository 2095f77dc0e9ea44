-- Every run is updated once it ends, in columns that no index has: with room left on its page that needs no index entries.
ALTER TABLE "lessor"."heartbeat_runs" SET (fillfactor = 70);
