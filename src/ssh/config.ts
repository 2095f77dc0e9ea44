import { posix } from 'node:path';
import { z } from 'zod';
import { InvalidConfigurationError, storableText } from '../contracts/index.ts';
import { secretReferenceSchema } from '../secrets/reference.ts';
import { parseKnownHosts } from './known-hosts.ts';

/** Limit of `knownHosts`, in bytes of UTF-8. */
const MAXIMUM_KNOWN_HOSTS_BYTES = 8 * 1024;

/** Limit of the workspace path, in UTF-16 code units: paths below it must fit into the 4,096 bytes of PATH_MAX. */
const MAXIMUM_WORKSPACE_PATH_LENGTH = 1024;

const hostSchema = z
  .string()
  .max(253)
  .regex(/^[A-Za-z0-9_:][A-Za-z0-9_.:-]*(%[A-Za-z0-9_.-]+)?$/, {
    error: 'must be the name or the address of a host, without user, port, brackets or blanks',
  })
  .describe('name or address of the host');

const usernameSchema = storableText(128).regex(/^[^\p{Cc}]+$/u, { error: 'contains a control character' });

/** An absolute path on the host, normalized: no repeated slashes, none at the end. */
const workspacePathSchema = storableText(MAXIMUM_WORKSPACE_PATH_LENGTH)
  .startsWith('/', { error: 'must be an absolute path, which begins with a slash' })
  .regex(/^[^\p{Cc}\\]+$/u, { error: 'contains a control character or a backslash' })
  .refine((path) => !path.split('/').some((name) => name === '.' || name === '..'), {
    error: 'must not contain . or .. as a name',
  })
  .transform((path) => posix.normalize(path).replace(/(?!^)\/$/, ''))
  .refine((path) => path !== '/', { error: 'must not be the root of the file system' })
  .describe('absolute path of an existing directory on the host');

const knownHostsSchema = z
  .string()
  .superRefine((text, context) => {
    const problem = problemOfKnownHosts(text);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
  })
  .describe(`keys of the host in the format of OpenSSH's known_hosts, at most ${MAXIMUM_KNOWN_HOSTS_BYTES} bytes`);

/** The config of an SSH environment. */
export const sshConfigSchema = z
  .strictObject({
    host: hostSchema,
    port: z.int().min(1).max(65_535).default(22),
    username: usernameSchema,
    remoteWorkspacePath: workspacePathSchema,
    privateKey: secretReferenceSchema,
    knownHosts: knownHostsSchema.optional(),
    strictHostKeyChecking: z.boolean().default(true),
    workspaceMode: z.enum(['staged', 'in_place']).default('staged'),
  })
  .superRefine(({ knownHosts, strictHostKeyChecking }, context) => {
    if (!strictHostKeyChecking || problemOfKnownHosts(knownHosts ?? '') !== undefined) return;
    if (parseKnownHosts(knownHosts ?? '').some(({ isRevoked }) => !isRevoked)) return;
    context.addIssue({
      code: 'custom',
      path: ['knownHosts'],
      message:
        'has no key, so that no host could be trusted: give what `ssh-keyscan -p PORT HOST` prints, ' +
        'once its fingerprint is known to be right, or set strictHostKeyChecking to false',
    });
  });
export type SshConfig = z.output<typeof sshConfigSchema>;

/** How messages name a host: `host:port`. */
export function addressOf({ host, port }: Pick<SshConfig, 'host' | 'port'>): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function problemOfKnownHosts(text: string): string | undefined {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAXIMUM_KNOWN_HOSTS_BYTES) return `is ${bytes} bytes, more than the ${MAXIMUM_KNOWN_HOSTS_BYTES} allowed`;
  try {
    parseKnownHosts(text);
    return undefined;
  } catch (error) {
    if (error instanceof InvalidConfigurationError) return error.message;
    throw error;
  }
}
