import type { Socket } from 'node:net';
import type { KeyPair } from './keys.ts';

/** A connection that is being served. */
export interface ServedConnection {
  /** Resolves when nobody serves it any more. */
  readonly ended: Promise<void>;
  /** Ends it at once, whatever it is doing. */
  cut(): void;
}

/** What speaks SSH on the connections that a listener accepts: OpenSSH's sshd, or ssh2's server in this process. */
export interface ConnectionServer {
  /** From now on new connections are shown this key. */
  useHostKey(key: KeyPair): Promise<void>;
  serve(socket: Socket): ServedConnection;
  /** What it said last, to be quoted when a login fails. */
  readonly lastWords: string;
  /** Hangs up the commands that run, and the connections. No connection is handed to it afterwards. */
  close(): Promise<void>;
}
