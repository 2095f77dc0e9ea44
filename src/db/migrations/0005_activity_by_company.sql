DROP INDEX "lessor"."activity_log_company";--> statement-breakpoint
ALTER TABLE "lessor"."activity_log" DROP CONSTRAINT "activity_log_pkey";--> statement-breakpoint
ALTER TABLE "lessor"."activity_log" ADD CONSTRAINT "activity_log_company_id_id_pk" PRIMARY KEY("company_id","id");
