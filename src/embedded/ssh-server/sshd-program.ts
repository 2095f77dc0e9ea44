import { execFile } from 'node:child_process';
import { access, constants, mkdir } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import { SshServerError } from './errors.ts';

/** Where it is installed; these are seldom on the PATH of an ordinary user. */
const SYSTEM_DIRECTORIES = ['/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin'];

/** It reads nothing of the environment but the time zone. */
export const SSHD_ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C' };

/** The absolute path of OpenSSH's sshd, which insists on being called by one; undefined when it is not installed. */
export async function findSshd(path: string): Promise<string | undefined> {
  for (const directory of [...path.split(delimiter).filter(isAbsolute), ...SYSTEM_DIRECTORIES]) {
    const program = join(directory, 'sshd');
    if (await isExecutable(program)) return program;
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Has sshd check its configuration and its surroundings.
 *
 * @throws {@link SshServerError} with what it said.
 */
export async function checkSshd(program: string, configPath: string): Promise<void> {
  const complaint = await complaintOf(program, configPath);
  if (complaint === undefined) return;
  const [, missing] = /Missing privilege separation directory: (\/\S+)/.exec(complaint) ?? [];
  // Usually made when the service starts, which it never did on a machine without an init system.
  if (missing !== undefined && process.getuid?.() === 0) {
    await mkdir(missing, { recursive: true, mode: 0o755 });
    const second = await complaintOf(program, configPath);
    if (second === undefined) return;
    throw rejection(program, second);
  }
  throw rejection(program, complaint);
}

async function complaintOf(program: string, configPath: string): Promise<string | undefined> {
  try {
    await promisify(execFile)(program, ['-t', '-f', configPath], { env: SSHD_ENVIRONMENT });
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return stderr?.trim() || message;
  }
}

function rejection(program: string, complaint: string): SshServerError {
  return new SshServerError('sshd_failed', `${program} refuses to run:\n${complaint}`);
}
