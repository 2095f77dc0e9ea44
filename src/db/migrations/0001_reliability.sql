CREATE TABLE "lessor"."outbox" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "lessor"."outbox_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"queue" text NOT NULL,
	"job_id" text NOT NULL,
	"run_id" uuid NOT NULL,
	"payload" jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "outbox_queue_check" CHECK ("lessor"."outbox"."queue" in ('run-started', 'run-finished'))
);
--> statement-breakpoint
CREATE TABLE "lessor"."workspace_waits" (
	"run_id" uuid PRIMARY KEY NOT NULL,
	"company_id" uuid NOT NULL,
	"environment_id" uuid NOT NULL,
	"execution_workspace_id" uuid NOT NULL,
	"waiting_since" timestamp with time zone NOT NULL,
	"last_asked_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "lessor"."workspace_waits" ADD CONSTRAINT "workspace_waits_run_fk" FOREIGN KEY ("company_id","run_id") REFERENCES "lessor"."heartbeat_runs"("company_id","id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "lessor"."workspace_waits" ADD CONSTRAINT "workspace_waits_environment_fk" FOREIGN KEY ("company_id","environment_id") REFERENCES "lessor"."environments"("company_id","id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "outbox_run" ON "lessor"."outbox" USING btree ("run_id","id");--> statement-breakpoint
CREATE INDEX "workspace_waits_order" ON "lessor"."workspace_waits" USING btree ("environment_id","execution_workspace_id","waiting_since","run_id");--> statement-breakpoint
CREATE INDEX "environment_leases_workspace" ON "lessor"."environment_leases" USING btree ("execution_workspace_id","environment_id","fencing_token") WHERE "lessor"."environment_leases"."execution_workspace_id" is not null;--> statement-breakpoint
CREATE INDEX "environment_leases_pending" ON "lessor"."environment_leases" USING btree ("last_used_at") WHERE "lessor"."environment_leases"."status" = 'pending';--> statement-breakpoint
CREATE INDEX "environment_leases_pending_cleanup" ON "lessor"."environment_leases" USING btree ("updated_at") WHERE "lessor"."environment_leases"."status" = 'pending_cleanup';--> statement-breakpoint
CREATE INDEX "heartbeat_runs_retention" ON "lessor"."heartbeat_runs" USING btree ("created_at","id");