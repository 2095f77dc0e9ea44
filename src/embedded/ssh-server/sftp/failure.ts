import ssh2 from 'ssh2';
import type { Answer } from './answer.ts';

const { STATUS_CODE } = ssh2.utils.sftp;

const MESSAGES = new Map<number, string>([
  [STATUS_CODE.NO_SUCH_FILE, 'No such file'],
  [STATUS_CODE.PERMISSION_DENIED, 'Permission denied'],
  [STATUS_CODE.FAILURE, 'Failure'],
  [STATUS_CODE.BAD_MESSAGE, 'Bad message'],
  [STATUS_CODE.OP_UNSUPPORTED, 'Operation unsupported'],
]);

/** The codes that OpenSSH's sftp-server answers with; any other error of the system is a plain failure. */
const CODES = new Map<string, number>([
  ['ENOENT', STATUS_CODE.NO_SUCH_FILE],
  ['ENOTDIR', STATUS_CODE.NO_SUCH_FILE],
  ['EBADF', STATUS_CODE.NO_SUCH_FILE],
  ['ELOOP', STATUS_CODE.NO_SUCH_FILE],
  ['EPERM', STATUS_CODE.PERMISSION_DENIED],
  ['EACCES', STATUS_CODE.PERMISSION_DENIED],
  ['EFAULT', STATUS_CODE.PERMISSION_DENIED],
  ['ENAMETOOLONG', STATUS_CODE.BAD_MESSAGE],
  ['EINVAL', STATUS_CODE.BAD_MESSAGE],
  // Node's own check: a path with a NUL in it, an offset that is no whole number.
  ['ERR_INVALID_ARG_VALUE', STATUS_CODE.BAD_MESSAGE],
  ['ERR_OUT_OF_RANGE', STATUS_CODE.BAD_MESSAGE],
  ['ENOSYS', STATUS_CODE.OP_UNSUPPORTED],
]);

export function failure(code: number): Answer {
  return { kind: 'status', code, message: MESSAGES.get(code) ?? 'Failure' };
}

/** As little as OpenSSH tells: a client must not come to rely on more. */
export function failureOf(error: unknown): Answer {
  const code = error instanceof Error && 'code' in error ? CODES.get(String(error.code)) : undefined;
  return failure(code ?? STATUS_CODE.FAILURE);
}
