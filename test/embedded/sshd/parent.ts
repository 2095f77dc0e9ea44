/** Opens an sshd until it is killed, for the test of what is left then. Argument: the directory. */
import { openEphemeralSshd } from '../../../src/embedded/sshd/ephemeral-sshd.ts';

const [directory] = process.argv.slice(2) as [string];
const { host, port, username, privateKeyPath } = await openEphemeralSshd({ directory });
process.stdout.write(`${JSON.stringify({ host, port, username, privateKeyPath })}\n`);
