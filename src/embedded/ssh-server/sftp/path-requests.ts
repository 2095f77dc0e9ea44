import { link, lstat, mkdir, readlink, realpath, rename, rmdir, stat, symlink, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import ssh2 from 'ssh2';
import { hasCode } from '../../../lib/errors.ts';
import { DONE, type Answer } from './answer.ts';
import { attributesOf, permissionsIn, setAttributesOfPath, type GivenAttributes } from './attributes.ts';
import { failure } from './failure.ts';

const { STATUS_CODE } = ssh2.utils.sftp;

/** Requests about paths. All of them are absolute here. */
export const pathRequests = {
  async stat(path: string): Promise<Answer> {
    return { kind: 'attributes', attributes: attributesOf(await stat(path)) };
  },

  async lstat(path: string): Promise<Answer> {
    return { kind: 'attributes', attributes: attributesOf(await lstat(path)) };
  },

  async setstat(path: string, given: GivenAttributes): Promise<Answer> {
    await setAttributesOfPath(path, given);
    return DONE;
  },

  async remove(path: string): Promise<Answer> {
    await unlink(path);
    return DONE;
  },

  async mkdir(path: string, given: GivenAttributes): Promise<Answer> {
    await mkdir(path, permissionsIn(given, 0o777));
    return DONE;
  },

  async rmdir(path: string): Promise<Answer> {
    await rmdir(path);
    return DONE;
  },

  /** Never replaces what is there, which version 3 of the protocol forbids. */
  async rename(from: string, to: string): Promise<Answer> {
    if ((await lstat(from)).isFile()) {
      if (await movedByLink(from, to)) return DONE;
    }
    if (await exists(to)) return failure(STATUS_CODE.FAILURE);
    await rename(from, to);
    return DONE;
  },

  async realpath(path: string): Promise<Answer> {
    return nameOnly(await resolvePath(path));
  },

  async readlink(path: string): Promise<Answer> {
    return nameOnly(await readlink(path));
  },

  async symlink(target: string, path: string): Promise<Answer> {
    await symlink(target, path);
    return DONE;
  },
};

/** A link fails when the name is taken, without a moment between looking and moving. */
async function movedByLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
  } catch (error) {
    // File systems without hard links, and files that must not have any.
    if (hasCode(error, 'EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EXDEV', 'EMLINK')) return false;
    throw error;
  }
  await unlink(from);
  return true;
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}

/** As OpenSSH does, the last name need not exist. */
async function resolvePath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    if (await exists(path)) throw error;
    return join(await realpath(dirname(path)), basename(path));
  }
}

function nameOnly(filename: string): Answer {
  const attrs = { mode: 0, uid: 0, gid: 0, size: 0, atime: 0, mtime: 0 };
  return { kind: 'names', names: [{ filename, longname: filename, attrs }] };
}
