CREATE SCHEMA IF NOT EXISTS "lessor";
--> statement-breakpoint
CREATE SEQUENCE "lessor"."fencing_tokens" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1;--> statement-breakpoint
CREATE TABLE "lessor"."activity_log" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "lessor"."activity_log_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"company_id" uuid NOT NULL,
	"actor_type" text DEFAULT 'system' NOT NULL,
	"actor_id" text NOT NULL,
	"action" text NOT NULL,
	"entity_type" text NOT NULL,
	"entity_id" uuid NOT NULL,
	"agent_id" uuid,
	"run_id" uuid,
	"details" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "activity_log_actor_type_check" CHECK ("lessor"."activity_log"."actor_type" in ('system', 'agent', 'user')),
	CONSTRAINT "activity_log_action_check" CHECK ("lessor"."activity_log"."action" in ('environment.created', 'environment.updated', 'environment.archived', 'environment.lease_acquired', 'environment.lease_renewed', 'environment.lease_released', 'environment.lease_expired', 'environment.lease_failed', 'environment.lease_retained', 'environment.lease_denied', 'environment.lease_release_failed')),
	CONSTRAINT "activity_log_entity_type_check" CHECK ("lessor"."activity_log"."entity_type" in ('environment', 'environment_lease', 'heartbeat_run'))
);
--> statement-breakpoint
CREATE TABLE "lessor"."companies" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"name" text,
	"status" text DEFAULT 'active' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "companies_status_check" CHECK ("lessor"."companies"."status" in ('active', 'archived'))
);
--> statement-breakpoint
CREATE TABLE "lessor"."environment_leases" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"company_id" uuid NOT NULL,
	"environment_id" uuid NOT NULL,
	"heartbeat_run_id" uuid,
	"execution_workspace_id" uuid,
	"issue_id" uuid,
	"status" text DEFAULT 'active' NOT NULL,
	"lease_policy" text DEFAULT 'ephemeral' NOT NULL,
	"provider" text,
	"provider_lease_id" text,
	"fencing_token" bigint DEFAULT nextval('lessor.fencing_tokens') NOT NULL,
	"ttl_seconds" integer NOT NULL,
	"acquired_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_used_at" timestamp with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"released_at" timestamp with time zone,
	"failure_reason" text,
	"cleanup_status" text,
	"metadata" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "environment_leases_status_check" CHECK ("lessor"."environment_leases"."status" in ('pending', 'active', 'released', 'expired', 'failed', 'retained', 'pending_cleanup')),
	CONSTRAINT "environment_leases_policy_check" CHECK ("lessor"."environment_leases"."lease_policy" in ('ephemeral', 'reuse_by_environment', 'reuse_by_execution_workspace', 'retain_on_failure')),
	CONSTRAINT "environment_leases_cleanup_check" CHECK ("lessor"."environment_leases"."cleanup_status" in ('pending', 'success', 'failed')),
	CONSTRAINT "environment_leases_ttl_check" CHECK ("lessor"."environment_leases"."ttl_seconds" > 0),
	CONSTRAINT "environment_leases_explained_check" CHECK (case
        when "lessor"."environment_leases"."status" in ('pending', 'active') then "lessor"."environment_leases"."cleanup_status" is null
        when "lessor"."environment_leases"."status" in ('failed', 'expired') then
          "lessor"."environment_leases"."cleanup_status" is not null and coalesce("lessor"."environment_leases"."failure_reason", '') <> ''
        else "lessor"."environment_leases"."cleanup_status" is not null
      end),
	CONSTRAINT "environment_leases_released_check" CHECK (("lessor"."environment_leases"."status" in ('released', 'expired', 'failed')) = ("lessor"."environment_leases"."released_at" is not null))
);
--> statement-breakpoint
CREATE TABLE "lessor"."environments" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"company_id" uuid NOT NULL,
	"name" text NOT NULL,
	"description" text,
	"driver" text NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"config" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"metadata" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "environments_company_id_id" UNIQUE("company_id","id"),
	CONSTRAINT "environments_driver_check" CHECK ("lessor"."environments"."driver" in ('local', 'ssh', 'sandbox', 'plugin')),
	CONSTRAINT "environments_status_check" CHECK ("lessor"."environments"."status" in ('active', 'archived'))
);
--> statement-breakpoint
CREATE TABLE "lessor"."heartbeat_runs" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"company_id" uuid NOT NULL,
	"agent_id" uuid,
	"issue_id" uuid,
	"project_id" uuid,
	"invocation_source" text DEFAULT 'heartbeat' NOT NULL,
	"status" text DEFAULT 'queued' NOT NULL,
	"failure_reason" text,
	"context_snapshot" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"started_at" timestamp with time zone,
	"finished_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "heartbeat_runs_company_id_id" UNIQUE("company_id","id"),
	CONSTRAINT "heartbeat_runs_status_check" CHECK ("lessor"."heartbeat_runs"."status" in ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out')),
	CONSTRAINT "heartbeat_runs_finished_check" CHECK (("lessor"."heartbeat_runs"."status" in ('succeeded', 'failed', 'cancelled', 'timed_out')) = ("lessor"."heartbeat_runs"."finished_at" is not null)),
	CONSTRAINT "heartbeat_runs_context_check" CHECK (jsonb_typeof("lessor"."heartbeat_runs"."context_snapshot") = 'object')
);
--> statement-breakpoint
ALTER TABLE "lessor"."activity_log" ADD CONSTRAINT "activity_log_company_id_companies_id_fk" FOREIGN KEY ("company_id") REFERENCES "lessor"."companies"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "lessor"."environment_leases" ADD CONSTRAINT "environment_leases_environment_fk" FOREIGN KEY ("company_id","environment_id") REFERENCES "lessor"."environments"("company_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "lessor"."environment_leases" ADD CONSTRAINT "environment_leases_run_fk" FOREIGN KEY ("company_id","heartbeat_run_id") REFERENCES "lessor"."heartbeat_runs"("company_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "lessor"."environments" ADD CONSTRAINT "environments_company_id_companies_id_fk" FOREIGN KEY ("company_id") REFERENCES "lessor"."companies"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "lessor"."heartbeat_runs" ADD CONSTRAINT "heartbeat_runs_company_id_companies_id_fk" FOREIGN KEY ("company_id") REFERENCES "lessor"."companies"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "activity_log_denied_once" ON "lessor"."activity_log" USING btree ("company_id","run_id") WHERE "lessor"."activity_log"."action" = 'environment.lease_denied';--> statement-breakpoint
CREATE INDEX "activity_log_company" ON "lessor"."activity_log" USING btree ("company_id","id");--> statement-breakpoint
CREATE INDEX "activity_log_run" ON "lessor"."activity_log" USING btree ("run_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "environment_leases_one_lease" ON "lessor"."environment_leases" USING btree ("heartbeat_run_id","environment_id") WHERE "lessor"."environment_leases"."status" in ('pending', 'active');--> statement-breakpoint
CREATE UNIQUE INDEX "environment_leases_single_flight" ON "lessor"."environment_leases" USING btree ("environment_id","execution_workspace_id") WHERE "lessor"."environment_leases"."status" in ('pending', 'active') and "lessor"."environment_leases"."lease_policy" = 'ephemeral' and "lessor"."environment_leases"."execution_workspace_id" is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "environment_leases_fenced" ON "lessor"."environment_leases" USING btree ("environment_id","fencing_token");--> statement-breakpoint
CREATE INDEX "environment_leases_run" ON "lessor"."environment_leases" USING btree ("heartbeat_run_id");--> statement-breakpoint
CREATE INDEX "environment_leases_lapsing" ON "lessor"."environment_leases" USING btree ("expires_at") WHERE "lessor"."environment_leases"."status" in ('pending', 'active', 'retained', 'pending_cleanup');--> statement-breakpoint
CREATE UNIQUE INDEX "environments_one_local" ON "lessor"."environments" USING btree ("company_id") WHERE "lessor"."environments"."driver" = 'local';