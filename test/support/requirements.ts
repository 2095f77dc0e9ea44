import { isInstalled } from '../ssh/programs.ts';

/** What a test needs of the machine or the account that it runs under. */
export interface Requirement {
  isMet: boolean;
  /** Ends the title of a test that is not run, for the summary; empty where the requirement is met. */
  note: string;
}

const runsAsRoot = process.getuid?.() === 0;

/** For what only root may do, such as starting a process as another user. */
export const asRoot = requirement(runsAsRoot, 'it needs root');

/** For permissions, which do not bind root. */
export const asOrdinaryUser = requirement(!runsAsRoot, 'it needs a user other than root');

/** A program on the PATH. CI must have it. */
export function programOnPath(name: string): Requirement {
  const isMet = isInstalled(name);
  if (!isMet && process.env['CI'] === 'true') throw new Error(`with CI=true all tests have to run: install ${name}`);
  return requirement(isMet, `${name} is not on the PATH`);
}

function requirement(isMet: boolean, otherwise: string): Requirement {
  return { isMet, note: isMet ? '' : ` (not run: ${otherwise})` };
}
