/** Owns an SSH server until it is killed, for the test of what is left behind. Arguments: kind and directory. */
import { openSshServer, type SshServerKind } from '../../../src/embedded/ssh-server/index.ts';

const [kind, directory] = process.argv.slice(2) as [SshServerKind, string];
const { host, port, username, privateKeyPath } = await openSshServer({ kind, directory });
process.stdout.write(`${JSON.stringify({ host, port, username, privateKeyPath })}\n`);
