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

/** Programs on the PATH. CI must have them. */
export function programsOnPath(...names: string[]): Requirement {
  const missing = names.filter((name) => !isInstalled(name)).join(', ');
  if (missing !== '' && process.env['CI'] === 'true') {
    throw new Error(`with CI=true all tests have to run: install ${missing}`);
  }
  return requirement(missing === '', `not on the PATH: ${missing}`);
}

function requirement(isMet: boolean, otherwise: string): Requirement {
  return { isMet, note: isMet ? '' : ` (not run: ${otherwise})` };
}
