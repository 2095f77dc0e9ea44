import { spawn, type ChildProcess } from 'node:child_process';
import type { Writable } from 'node:stream';
import { OutputTail } from '../output-tail.ts';
import { SshServerError } from './errors.ts';

/**
 * Is told of process groups, and signals them once its standard input is at its end, which the kernel sees to whatever
 * happens to the owner. Arguments: the signal for the groups, and one for the groups that their leaders are parents of,
 * which may be empty.
 */
const WATCH = `
trap '' HUP INT TERM
held=' '
while read -r verb group; do
  case $verb in
    hold) held="$held$group " ;;
    free) held="\${held%% "$group" *} \${held#* "$group" }" ;;
  esac
done
parent_of() {
  while read -r key value; do
    if [ "$key" = PPid: ]; then echo "$value"; break; fi
  done <"/proc/$1/status"
}
processes_with_parents() {
  if [ -r /proc/self/status ]; then
    for entry in /proc/[0-9]*; do echo "\${entry#/proc/} $(parent_of "\${entry#/proc/}")"; done
  else
    ps -A -o pid= -o ppid=
  fi
}
[ -z "\${held# }" ] && exit 0
[ -n "$2" ] && processes_with_parents 2>/dev/null | while read -r process parent; do
  case $held in *" $parent "*) kill "-$2" "-$process" ;; esac
done 2>/dev/null
for group in $held; do kill "-$1" "-$group"; done 2>/dev/null
exit 0
`;

/** Which signals are sent when the owner goes. */
export interface WatchSignals {
  readonly toHeld: 'HUP' | 'TERM';
  /** To process groups whose leader is a child of a held one. */
  readonly toChildren?: 'HUP';
}

/** A process of its own that hangs up what a server started, when the server is closed or its owner is gone. */
export class OwnerWatch {
  readonly #child: ChildProcess & { stdin: Writable };
  readonly #output: OutputTail;
  readonly #spawned: Promise<void>;
  readonly #ended: Promise<number | NodeJS.Signals>;

  /** @throws {@link SshServerError} when it cannot be started. */
  static async start(signals: WatchSignals): Promise<OwnerWatch> {
    const watch = new OwnerWatch(signals);
    await Promise.race([watch.#spawned, watch.#ended]);
    return watch;
  }

  private constructor({ toHeld, toChildren }: WatchSignals) {
    const child = spawn('/bin/sh', ['-c', WATCH, 'ssh-server-watch', toHeld, toChildren ?? ''], {
      // A session of its own: Ctrl-C on the terminal reaches the owner only.
      detached: true,
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    this.#child = child;
    this.#spawned = new Promise((resolve) => void child.once('spawn', resolve));
    this.#ended = new Promise((resolve, reject) => {
      child.once('error', (error) => reject(watchFailure(error.message)));
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'));
    });
    this.#output = new OutputTail(child.stderr);
    child.stdin.on('error', (error) => this.#output.append(`standard input: ${error.message}\n`));
  }

  /** From now on the process group is hung up when the owner goes. */
  hold(processGroup: number): void {
    this.#child.stdin.write(`hold ${processGroup}\n`);
  }

  /** The process group has ended, and its number may come to mean another one. */
  free(processGroup: number): void {
    this.#child.stdin.write(`free ${processGroup}\n`);
  }

  /** Hangs up what is held. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    const end = await this.#ended;
    if (end === 0) return;
    throw watchFailure(`it ended with ${end}. Its last words:\n${this.#output.text}`);
  }
}

function watchFailure(detail: string): SshServerError {
  return new SshServerError(
    'watch_failed',
    `What an SSH server runs cannot be ended with it, as its watch failed: ${detail}`,
  );
}
