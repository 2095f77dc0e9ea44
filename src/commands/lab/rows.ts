import { absentHostRows } from './absent-host-rows.ts';
import { connectionRow } from './connection-row.ts';
import { executionRow } from './execution-row.ts';
import { hostKeyRow } from './host-key-row.ts';
import { releaseRow } from './release-row.ts';
import { restoreRow } from './restore-row.ts';
import type { LabRow } from './row.ts';
import { uploadRow } from './upload-row.ts';

/** All that the lab shows, in this order. */
export function labRows(): LabRow[] {
  return [connectionRow, hostKeyRow, uploadRow, executionRow, restoreRow, releaseRow, ...absentHostRows()];
}
