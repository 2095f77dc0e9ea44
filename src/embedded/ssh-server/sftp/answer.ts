import ssh2, { type FileEntry, type SFTPWrapper } from 'ssh2';
import type { Attributes } from 'ssh2';

const { STATUS_CODE } = ssh2.utils.sftp;

/** What a request is answered with; each request gets exactly one. */
export type Answer =
  | { readonly kind: 'status'; readonly code: number; readonly message: string }
  | { readonly kind: 'handle'; readonly handle: Buffer }
  | { readonly kind: 'data'; readonly data: Buffer }
  | { readonly kind: 'names'; readonly names: readonly FileEntry[] }
  | { readonly kind: 'attributes'; readonly attributes: Attributes };

export const DONE: Answer = { kind: 'status', code: STATUS_CODE.OK, message: 'Success' };
export const END_OF_FILE: Answer = { kind: 'status', code: STATUS_CODE.EOF, message: 'End of file' };

export function sendAnswer(sftp: SFTPWrapper, requestId: number, answer: Answer): void {
  switch (answer.kind) {
    case 'status':
      return sftp.status(requestId, answer.code, answer.message);
    case 'handle':
      return sftp.handle(requestId, answer.handle);
    case 'data':
      return sftp.data(requestId, answer.data);
    case 'names':
      return sftp.name(requestId, [...answer.names]);
    case 'attributes':
      return sftp.attrs(requestId, answer.attributes);
  }
}
