import { spawn } from 'node:child_process';
import ssh2 from 'ssh2';
import type { ServerChannel } from 'ssh2';
import { listenOnLoopback } from '../support/listen-on-loopback.ts';
import { newKeyPair } from './keys.ts';

/** What a server does when it is to execute a command. */
export type ExecuteCommand = (command: string, channel: ServerChannel) => void;

/**
 * A server that does what an sshd never does: it accepts anybody, has no SFTP, and executes commands as a test says, or
 * none: a silent one does not even reject them. Resolves to its port.
 */
export async function startScriptedServer(
  execute: ExecuteCommand | undefined,
  { isSilent = false }: { isSilent?: boolean } = {},
): Promise<number> {
  const server = new ssh2.Server({ hostKeys: [newKeyPair().private] }, (client) => {
    client.on('error', () => undefined);
    client.on('authentication', (context) => context.accept());
    client.on('session', (accept) => {
      if (isSilent) return;
      const session = accept();
      if (execute === undefined) return;
      session.on('exec', (acceptExec, _reject, { command }) => execute(command, acceptExec()));
    });
  });
  return listenOnLoopback(server);
}

/** Executes each command by `shell -c`, as sshd does by the user's login shell. */
export function executeByShell(shell: string): ExecuteCommand {
  return (command, channel) => {
    const child = spawn(shell, ['-c', command]);
    child.stdin.on('error', () => undefined);
    channel.pipe(child.stdin);
    child.stdout.pipe(channel, { end: false });
    child.stderr.pipe(channel.stderr, { end: false });
    child.on('close', (code) => {
      channel.exit(code ?? 1);
      channel.end();
    });
  };
}
