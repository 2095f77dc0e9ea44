import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { hasCode } from '../src/lib/errors.ts';

/** A process of this machine. A zombie is none. */
export interface RunningProcess {
  pid: number;
  parent: number;
  /** The command and its arguments, as far as the system shows them. */
  command: string;
}

/** What Linux says of a process in `/proc/PID/stat`. */
export interface ProcessStat {
  pid: number;
  state: string;
  parent: number;
  /** CPU time of the process and of its ended children. */
  cpuMs: number;
}

/** Whether this system has `/proc`: Linux. */
export const hasProc = existsSync('/proc/self/stat');

/** A tick of the CPU times in `/proc` is a hundredth of a second wherever Node runs. */
const MS_PER_TICK = 10;

/** All running processes: from `/proc`, as images of Node often lack `ps`, or from `ps` where there is no `/proc`. */
export function runningProcesses(): RunningProcess[] {
  return hasProc ? processesFromProc() : processesFromPs();
}

/** The stats of all processes, zombies included. Requires {@link hasProc}. */
export function processStats(): ProcessStat[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => processStat(Number(pid)))
    .filter((stat) => stat !== undefined);
}

/** Undefined for a process that has ended. Requires {@link hasProc}. */
export function processStat(pid: number): ProcessStat | undefined {
  const stat = readProcFile(pid, 'stat');
  if (stat === undefined) return undefined;
  // The name in parentheses can hold anything, so fields are counted from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return { pid, state: fields[0]!, parent: Number(fields[1]), cpuMs: ticks * MS_PER_TICK };
}

/** The environment of a process, as `NAME=value`; empty where the system does not show it. */
export function environmentVariablesOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    // It has ended, is another user's, or there is no /proc.
    return [];
  }
}

function processesFromProc(): RunningProcess[] {
  return processStats().flatMap(({ pid, state, parent }) => {
    const command = readProcFile(pid, 'cmdline');
    return state === 'Z' || command === undefined
      ? []
      : [{ pid, parent, command: command.replaceAll('\0', ' ').trim() }];
  });
}

function processesFromPs(): RunningProcess[] {
  const lines = execFileSync('ps', ['-eo', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' }).trim().split('\n');
  return lines.flatMap((line) => {
    const [, pid, parent, state, command] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    return state === undefined || state.startsWith('Z')
      ? []
      : [{ pid: Number(pid), parent: Number(parent), command: command ?? '' }];
  });
}

/** Undefined when the process has ended. */
function readProcFile(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
