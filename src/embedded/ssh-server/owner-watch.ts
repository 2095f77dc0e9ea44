import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { OutputTail } from '../output-tail.ts';
import { SshServerError } from './errors.ts';

/**
 * Is told of process groups, and signals them once its standard input is at its end, which the kernel sees to whatever
 * happens to the owner. Arguments: the signal for the groups, and one for the groups that were started from them, by
 * a process that is in one itself; that one may be empty.
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
processes() {
  if [ ! -r /proc/self/stat ]; then
    ps -A -o pid= -o ppid= -o pgid=
    return
  fi
  for entry in /proc/[0-9]*; do
    if read -r stat <"$entry/stat"; then
      # The name in parentheses can hold anything, so what follows is counted from its end.
      set -- \${stat##*) }
      echo "\${entry#/proc/} $2 $3"
    fi
  done
}
signal_started() {
  processes=$(processes)
  members=' '
  while read -r process parent group; do
    case $held in *" $group "*) members="$members$process " ;; esac
  done <<END
$processes
END
  while read -r process parent group; do
    case $members in *" $parent "*) [ "$process" = "$group" ] && kill "-$1" "-$group" ;; esac
  done <<END
$processes
END
}
[ -z "\${held# }" ] && exit 0
[ -n "$2" ] && signal_started "$2" 2>/dev/null
for group in $held; do kill "-$1" "-$group"; done 2>/dev/null
exit 0
`;

/** Which signals are sent when the owner goes. */
export interface WatchSignals {
  readonly toHeld: 'HUP' | 'TERM';
  /** To the process groups that processes of the held ones started. */
  readonly toStarted?: 'HUP';
}

type WatchProcess = ChildProcessByStdio<Writable, null, Readable>;

/** A process of its own that hangs up what a server started, when the server is closed or its owner is gone. */
export class OwnerWatch {
  readonly #child: WatchProcess;
  readonly #output: OutputTail;
  readonly #ended: Promise<number | NodeJS.Signals>;

  /** @throws {@link SshServerError} when it cannot be started. */
  static async start({ toHeld, toStarted }: WatchSignals): Promise<OwnerWatch> {
    const child = spawn('/bin/sh', ['-c', WATCH, 'ssh-server-watch', toHeld, toStarted ?? ''], {
      // A session of its own: Ctrl-C on the terminal reaches the owner only.
      detached: true,
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    try {
      await once(child, 'spawn');
    } catch (error) {
      throw watchFailure(String(error));
    }
    return new OwnerWatch(child);
  }

  private constructor(child: WatchProcess) {
    this.#child = child;
    this.#output = new OutputTail(child.stderr);
    child.stdin.on('error', (error) => this.#output.append(`standard input: ${error.message}\n`));
    this.#ended = new Promise((resolve) => {
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'));
    });
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
