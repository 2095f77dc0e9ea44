import { z } from 'zod';
import { embeddedPostgresErrorCodes } from './errors.ts';

/** What the owner asks of its guardian, as JSON in the guardian's only argument. It holds no secret. */
export const guardianRequestSchema = z.strictObject({
  /** `null`: a temporary directory, removed when the server has stopped. */
  dataDirectory: z.string().min(1).nullable(),
  /** `null`: any free port. */
  port: z.int().min(1).max(65_535).nullable(),
  settings: z.record(z.string(), z.string()),
});
export type GuardianRequest = z.infer<typeof guardianRequestSchema>;

/** What the guardian tells its owner. */
const guardianReportSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('ready'), url: z.string(), directory: z.string() }),
  z.strictObject({ kind: z.literal('failed'), code: z.enum(embeddedPostgresErrorCodes), message: z.string() }),
]);
export type GuardianReport = z.infer<typeof guardianReportSchema>;

/** One line of the guardian's standard output, to a report. */
export const reportLineSchema = z
  .string()
  .transform((line, context): unknown => {
    try {
      return JSON.parse(line);
    } catch (error) {
      context.addIssue(`not JSON: ${String(error)}`);
      return z.NEVER;
    }
  })
  .pipe(guardianReportSchema);
