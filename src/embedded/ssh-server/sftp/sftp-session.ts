import { isAbsolute } from 'node:path';
import type { SFTPWrapper, Session } from 'ssh2';
import { unsentAnswers } from '../ssh2-internals.ts';
import type { Transport } from '../transport.ts';
import { sendAnswer, type Answer } from './answer.ts';
import { failureOf } from './failure.ts';
import { HandleRequests } from './handle-requests.ts';
import { pathRequests } from './path-requests.ts';
import { RequestQueue } from './request-queue.ts';

interface SftpSession {
  /** Where paths start that are not absolute. */
  readonly home: string;
  readonly session: Session;
  readonly transport: Transport;
}

/** What may wait for a client to take it: much more than those leave waiting that have 64 requests under way. */
const MAX_UNSENT_ANSWERS = 16_384;
const MAX_UNSENT_BYTES = 64 * 1_024 * 1_024;

/** Serves the file system to a client, version 3 of the protocol. Resolves when the client has left. */
export async function serveSftp(sftp: SFTPWrapper, { home, session, transport }: SftpSession): Promise<void> {
  const handles = new HandleRequests();
  const queue = new RequestQueue(transport);
  const gone = new AbortController();
  const leave = () => gone.abort();
  session.once('close', leave);
  sftp.once('close', leave).on('error', leave);
  transport.closed.addEventListener('abort', leave, { once: true });
  const answer = (requestId: number, act: () => Promise<Answer>, bytes = 0) => {
    const serve = async () => {
      const given = await act().catch(failureOf);
      if (gone.signal.aborted) return;
      sendAnswer(sftp, requestId, given);
      requireTaken(unsentAnswers(sftp));
    };
    queue.add({ serve: () => serve().catch((error: Error) => transport.fail(error)), bytes });
  };
  const requestsEnded = new Promise<void>((resolve) => {
    sftp.once('end', resolve);
    gone.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  listen(sftp, home, handles, answer);
  gone.signal.addEventListener('abort', () => queue.abandon(), { once: true });
  if (transport.closed.aborted) leave();
  await requestsEnded;
  await queue.idle();
  await handles.closeAll();
  if (!transport.closed.aborted) sftp.end();
}

function requireTaken(unsent: readonly Buffer[]): void {
  const bytes = unsent.reduce((sum, answer) => sum + answer.length, 0);
  if (unsent.length <= MAX_UNSENT_ANSWERS && bytes <= MAX_UNSENT_BYTES) return;
  throw new Error('An SFTP client asked for more and more, and took nothing of it.');
}

function listen(
  sftp: SFTPWrapper,
  home: string,
  handles: HandleRequests,
  answer: (requestId: number, act: () => Promise<Answer>, bytes?: number) => void,
): void {
  // Not normalized: with symbolic links on the way, `..` is not what it seems.
  const at = (path: string) => (isAbsolute(path) ? path : `${home}/${path || '.'}`);
  sftp.on('OPEN', (id, path, modes, given) => answer(id, () => handles.open(at(path), modes, given)));
  sftp.on('CLOSE', (id, handle) => answer(id, () => handles.close(handle)));
  sftp.on('READ', (id, handle, offset, length) => answer(id, () => handles.read(handle, offset, length)));
  sftp.on('WRITE', (id, handle, offset, data) => answer(id, () => handles.write(handle, offset, data), data.length));
  sftp.on('FSTAT', (id, handle) => answer(id, () => handles.fstat(handle)));
  sftp.on('FSETSTAT', (id, handle, given) => answer(id, () => handles.fsetstat(handle, given)));
  sftp.on('OPENDIR', (id, path) => answer(id, () => handles.opendir(at(path))));
  sftp.on('READDIR', (id, handle) => answer(id, () => handles.readdir(handle)));
  sftp.on('STAT', (id, path) => answer(id, () => pathRequests.stat(at(path))));
  sftp.on('LSTAT', (id, path) => answer(id, () => pathRequests.lstat(at(path))));
  sftp.on('SETSTAT', (id, path, given) => answer(id, () => pathRequests.setstat(at(path), given)));
  sftp.on('REMOVE', (id, path) => answer(id, () => pathRequests.remove(at(path))));
  sftp.on('MKDIR', (id, path, given) => answer(id, () => pathRequests.mkdir(at(path), given)));
  sftp.on('RMDIR', (id, path) => answer(id, () => pathRequests.rmdir(at(path))));
  sftp.on('RENAME', (id, from, to) => answer(id, () => pathRequests.rename(at(from), at(to))));
  sftp.on('REALPATH', (id, path) => answer(id, () => pathRequests.realpath(at(path))));
  sftp.on('READLINK', (id, path) => answer(id, () => pathRequests.readlink(at(path))));
  // The types name the two the other way round than ssh2 sends them.
  sftp.on('SYMLINK', (id, path, target) => answer(id, () => pathRequests.symlink(target, at(path))));
}
