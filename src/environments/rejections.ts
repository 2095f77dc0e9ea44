import type { CompanyStatus, Rejection } from '../contracts/index.ts';
import type { RecordedRun } from '../db/statements/record-runs.ts';

/** Why nothing can be done for the company; undefined when it is registered. */
export function rejectionOfUnknownCompany(
  companies: ReadonlyMap<string, CompanyStatus>,
  companyId: string,
): Rejection | undefined {
  if (companies.has(companyId)) return undefined;
  return {
    code: 'unknown_company',
    reason: `company ${companyId} is not registered; insert it into lessor.companies, or set COMPANY_REGISTRATION=auto`,
  };
}

/** Why no run of the company is granted a lease; undefined when one can be. */
export function rejectionOfCompany(
  companies: ReadonlyMap<string, CompanyStatus>,
  companyId: string,
): Rejection | undefined {
  if (companies.get(companyId) !== 'archived') return rejectionOfUnknownCompany(companies, companyId);
  return { code: 'company_archived', reason: `company ${companyId} is archived` };
}

/** Why the message does not concern the run of this id (same-company); undefined when it does. */
export function rejectionOfRun(
  run: RecordedRun | undefined,
  message: { companyId: string; runId: string },
): Rejection | undefined {
  if (run === undefined || run.companyId === message.companyId) return undefined;
  return { code: 'foreign_run', reason: `run ${message.runId} belongs to another company` };
}
