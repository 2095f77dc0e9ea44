ALTER TABLE "lessor"."activity_log" DROP CONSTRAINT "activity_log_company_id_companies_id_fk";
