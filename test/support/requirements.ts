import { describe, test } from 'vitest';
import { isInstalled } from '../ssh/programs.ts';

/** What a test needs of the machine or the account that it runs under. */
export interface Requirement {
  isMet: boolean;
  /** Why a test is not run where it is not met. */
  otherwise: string;
}

const runsAsRoot = process.getuid?.() === 0;

/** For what only root may do, such as starting a process as another user. */
export const isRoot: Requirement = { isMet: runsAsRoot, otherwise: 'this needs root' };

/** For permissions that are checked, which they are not for root. */
export const isOrdinaryUser: Requirement = {
  isMet: !runsAsRoot,
  otherwise: 'root may do everything; this needs another user',
};

/** A program on the PATH. CI must have it. */
export function hasProgram(name: string): Requirement {
  const isMet = isInstalled(name);
  if (!isMet && process.env['CI'] === 'true') throw new Error(`with CI=true all tests have to run: install ${name}`);
  return { isMet, otherwise: `${name} is not on the PATH` };
}

/** A suite that is not run where its requirement is not met, which the summary says. */
export function describeIf(requirement: Requirement, name: string, suite: () => void): void {
  describe.runIf(requirement.isMet)(titleOf(requirement, name), suite);
}

/** A test that is not run where its requirement is not met, which the summary says. */
export function testIf(requirement: Requirement, name: string, run: () => Promise<void>): void {
  test.runIf(requirement.isMet)(titleOf(requirement, name), run);
}

function titleOf({ isMet, otherwise }: Requirement, name: string): string {
  return isMet ? name : `${name} (not run: ${otherwise})`;
}
