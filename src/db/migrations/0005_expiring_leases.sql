ALTER INDEX "lessor"."environment_leases_lapsing" RENAME TO "environment_leases_expiring";
