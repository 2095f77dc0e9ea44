ALTER TABLE "lessor"."environment_leases" ADD COLUMN "acquiring_until" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "lessor"."environment_leases" ADD COLUMN "ending_status" text;--> statement-breakpoint
ALTER TABLE "lessor"."environment_leases" ADD COLUMN "ending_reason" text;--> statement-breakpoint
CREATE INDEX "environment_leases_kept" ON "lessor"."environment_leases" USING btree ("environment_id","execution_workspace_id") WHERE "lessor"."environment_leases"."status" in ('retained', 'pending_cleanup');--> statement-breakpoint
ALTER TABLE "lessor"."environment_leases" ADD CONSTRAINT "environment_leases_ending_check" CHECK ("lessor"."environment_leases"."ending_status" in ('released', 'expired', 'failed'));