import { existsSync, readFileSync } from 'node:fs';
import type { Execution } from '../../execution/driver.ts';
import { commandOnHost } from './command-on-host.ts';
import { expected } from './row.ts';

/**
 * Leaves a process running and prints its id. Where the system shows the variables of processes, even one that made
 * itself a daemon is found.
 */
const LEAVE_PROCESS = `
const { spawn } = require('node:child_process');
const child = spawn('sleep', ['600'], { detached: process.platform === 'linux', stdio: 'ignore' });
child.unref();
console.log(child.pid);`;

/** Has a command leave a process running, and resolves to its id. */
export async function leaveProcess(execution: Execution): Promise<number> {
  const { end, stdout, stderr } = await commandOnHost(execution, [process.execPath, '-e', LEAVE_PROCESS]);
  const pid = Number(stdout);
  expected(end.code === 0 && pid > 0, `no process could be left running: ${stderr}`);
  expected(isRunning(pid), 'the process that was left running ended by itself');
  return pid;
}

/** Whether a process of this machine runs. One that ended, and that nobody has asked about since, does not. */
export function isRunning(pid: number): boolean {
  const stat = `/proc/${pid}/stat`;
  try {
    if (existsSync('/proc/self/stat')) return !/\) [ZX] /.test(readFileSync(stat, 'utf8'));
    return process.kill(pid, 0);
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(String((error as NodeJS.ErrnoException).code))) return false;
    throw error;
  }
}

/** Ends a process that was to be ended by others, if it is there still. */
export function endProcess(pid: number): void {
  if (isRunning(pid)) process.kill(pid, 'SIGKILL');
}
