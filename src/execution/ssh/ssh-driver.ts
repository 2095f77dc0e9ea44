import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import pLimit from 'p-limit';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import type { GrantedLease } from '../../contracts/index.ts';
import { raceAbort, withTimeout } from '../../lib/abort.ts';
import { acquirePermit } from '../../lib/concurrency.ts';
import type { SecretResolver } from '../../secrets/resolver.ts';
import { addressOf, sshConfigSchema } from '../../ssh/config.ts';
import type { SshConfig } from '../../ssh/config.ts';
import { SshConnection } from '../../ssh/connection.ts';
import {
  LEASE_DIRECTORY_VARIABLE,
  assertLeaseDirectory,
  commandsDirectoryOf,
  workspacePathOf,
} from '../../ssh/lease-directory.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import { InvalidCommandError, checkCommand } from '../driver.ts';
import type {
  Command,
  Execution,
  ExecutionDriver,
  ExecutionOptions,
  PrepareReport,
  ProcessExit,
  RestoreReport,
} from '../driver.ts';
import { resolveWorkspaceDirectory } from '../workspace/local-tree.ts';
import { LocalWorkspace } from '../workspace/local-workspace.ts';
import type { Manifest } from '../workspace/manifest.ts';
import { restoreWorkspace } from '../workspace/restore-workspace.ts';
import { EXIT_NO_WORKSPACE, RemoteCommand, commandScript } from './remote-command.ts';
import type { CommandFiles } from './remote-command.ts';
import { RemoteRestoreSource } from './remote-tree.ts';
import { SftpSession } from './sftp-session.ts';
import { uploadWorkspace } from './upload-workspace.ts';

/** Options of the SSH execution driver. */
export interface SshExecutionDriverOptions {
  /** Reads the private keys that environments refer to. */
  secrets: SecretResolver;
}

/** Executes commands on SSH hosts: the execution half of the driver `ssh`. */
export function createSshExecutionDriver({ secrets }: SshExecutionDriverOptions): ExecutionDriver {
  return {
    name: 'ssh',
    async open(lease, options) {
      const config = configOf(lease);
      const directory = lease.providerLeaseId;
      if (directory === null)
        throw new EnvironmentFailedError('driver_failed', `lease ${lease.id} has no lease directory on its host`);
      assertLeaseDirectory(config, directory);
      const { workspaceDirectory } = options;
      const signal = AbortSignal.any([options.signal]);
      // Every concurrent transfer and command listens to it, far more than the 10 listeners that Node warns at.
      setMaxListeners(0, signal);
      const local = workspaceDirectory === undefined ? undefined : await resolveWorkspaceDirectory(workspaceDirectory);
      const connection = await SshConnection.connect(config, { secrets, signal });
      try {
        const sftp = await SftpSession.open(connection, config, { signal });
        return new SshExecution({ connection, sftp, config, directory, leaseId: lease.id }, local, {
          ...options,
          signal,
        });
      } catch (error) {
        await connection.close();
        throw error;
      }
    },
  };
}

function configOf({ id, config }: GrantedLease): SshConfig {
  const parsed = sshConfigSchema.safeParse(config);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ');
  throw new EnvironmentFailedError(
    'driver_failed',
    `the config of lease ${id} is none of an SSH environment: ${fields}`,
  );
}

/** A lease on a host, with the connection to it. */
interface SshLease {
  connection: SshConnection;
  sftp: SftpSession;
  config: SshConfig;
  directory: LeaseDirectory;
  leaseId: string;
}

/** A connection has eight sessions: five for commands, one for SFTP, the others for sending signals. */
const MAX_CONCURRENT_COMMANDS = 5;

/** The run may be over by then, so that only time bounds it. */
const CHECK_STARTED_TIMEOUT_MS = 10_000;

/** A host that answers removes a file within a round trip. */
const REMOVE_SCRIPT_TIMEOUT_MS = 2_000;

/** An execution on an SSH host. */
class SshExecution implements Execution {
  readonly workspacePath: string;
  readonly location: string;
  readonly #lease: SshLease;
  readonly #options: ExecutionOptions;
  readonly #commands = pLimit(MAX_CONCURRENT_COMMANDS);
  readonly #running = new Set<Promise<RemoteCommand>>();
  /** Work that nobody waits for any more may still hold local files. */
  readonly #transfers = new Set<Promise<unknown>>();
  /** The local workspace, when it is to be uploaded. */
  readonly #localDirectory: string | undefined;
  #manifest: Manifest | undefined;

  /** @param localDirectory the local workspace, without symlinks in its path */
  constructor(lease: SshLease, localDirectory: string | undefined, options: ExecutionOptions) {
    this.#lease = lease;
    this.#options = options;
    this.#localDirectory = lease.config.workspaceMode === 'staged' ? localDirectory : undefined;
    this.workspacePath = workspacePathOf(lease.config, lease.directory);
    this.location = `${lease.config.username}@${addressOf(lease.config)}:${this.workspacePath}`;
  }

  async prepareWorkspace(): Promise<PrepareReport> {
    const { sftp, directory } = this.#lease;
    const { signal, onProgress } = this.#options;
    signal.throwIfAborted();
    await raceAbort(this.#checkWorkspace(), signal);
    if (this.#localDirectory === undefined) return { files: 0, bytes: 0, skipped: this.#unusedWorkspace() };
    const upload = uploadWorkspace({
      sftp,
      localDirectory: this.#localDirectory,
      leaseDirectory: directory,
      workspacePath: this.workspacePath,
      signal,
      onProgress,
    });
    const { manifest, report } = await this.#awaitTransfer(upload, signal);
    this.#manifest = manifest;
    return report;
  }

  async execute(command: Command): Promise<ProcessExit> {
    const { directory } = this.#lease;
    const { signal } = this.#options;
    signal.throwIfAborted();
    checkCommand(command);
    if (Object.hasOwn(command.env, LEASE_DIRECTORY_VARIABLE)) {
      throw new InvalidCommandError(`${LEASE_DIRECTORY_VARIABLE} is set by Lessor and cannot be set otherwise`);
    }
    const id = randomUUID();
    const files: CommandFiles = {
      script: `${commandsDirectoryOf(directory)}/${id}.sh`,
      pid: `${commandsDirectoryOf(directory)}/${id}.pid`,
    };
    // Without an await before it: a signal that is sent right after this call waits for the command.
    const permit = acquirePermit(this.#commands, signal);
    const running = permit.then(() => this.#start(command, files));
    this.#running.add(running);
    try {
      const exit = await (await running).exited(signal);
      if (exit.code === EXIT_NO_WORKSPACE) await this.#checkStarted(files);
      return exit;
    } finally {
      this.#running.delete(running);
      void permit.then((release) => release()).catch(() => undefined);
    }
  }

  async send(signal: NodeJS.Signals): Promise<void> {
    const sent = [...this.#running].map(async (starting) => {
      // execute() rejects for a command that does not start.
      const started = await starting.catch(() => undefined);
      await started?.send(signal);
    });
    await Promise.all(sent);
  }

  async restoreWorkspace({
    signal = new AbortController().signal,
  }: { signal?: AbortSignal } = {}): Promise<RestoreReport> {
    if (this.#localDirectory === undefined || this.#manifest === undefined)
      return { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };
    const restore = restoreWorkspace({
      manifest: this.#manifest,
      source: new RemoteRestoreSource(this.#lease.sftp, this.workspacePath, signal),
      workspace: new LocalWorkspace(this.#localDirectory),
      leaseId: this.#lease.leaseId,
      signal,
      onProgress: this.#options.onProgress,
    });
    return this.#awaitTransfer(restore, signal);
  }

  async close(): Promise<void> {
    this.#lease.sftp.release();
    await this.#lease.connection.close();
    await Promise.allSettled(this.#transfers);
  }

  /**
   * Waits for a transfer until the signal is aborted, although the host answers nothing. The released SFTP session ends
   * what is left of it.
   */
  #awaitTransfer<Result>(transfer: Promise<Result>, signal: AbortSignal): Promise<Result> {
    this.#transfers.add(transfer);
    const forget = () => this.#transfers.delete(transfer);
    transfer.then(forget, forget);
    return raceAbort(transfer, signal);
  }

  #unusedWorkspace(): PrepareReport['skipped'] {
    if (this.#options.workspaceDirectory === undefined) return [];
    return [{ path: '.', reason: `the environment works in place, on the checkout in ${this.workspacePath}` }];
  }

  /** The acquisition of the lease created it. */
  async #checkWorkspace(): Promise<void> {
    const stats = await this.#lease.sftp.lstat(this.workspacePath);
    // The checkout of an environment that works in place may be a symlink, made by whoever set up the environment.
    if (stats?.isDirectory() || (stats?.isSymbolicLink() && this.#lease.config.workspaceMode === 'in_place')) return;
    throw new EnvironmentFailedError(
      'workspace_unusable',
      `${this.location} is ${stats === undefined ? 'not there' : 'no directory'}; is the lease over, or was it removed?`,
    );
  }

  async #start(command: Command, files: CommandFiles): Promise<RemoteCommand> {
    const { connection, sftp, directory } = this.#lease;
    const { signal } = this.#options;
    const script = await commandScript(command, { directory, workspacePath: this.workspacePath, files });
    try {
      await raceAbort(this.#writeScript(commandsDirectoryOf(directory), files, script), signal);
      return await RemoteCommand.start(connection, files, command, signal);
    } catch (error) {
      // It holds values of variables. When it cannot be removed now, the release of the lease removes it.
      await withTimeout(REMOVE_SCRIPT_TIMEOUT_MS, () => sftp.unlink(files.script)).catch(() => undefined);
      throw error;
    }
  }

  async #writeScript(commandsDirectory: string, files: CommandFiles, script: string): Promise<void> {
    const { sftp } = this.#lease;
    if ((await sftp.lstat(commandsDirectory)) === undefined) await sftp.mkdir(commandsDirectory, 0o700);
    await sftp.writeNew(files.script, Buffer.from(script), 0o700);
  }

  /** The exit code is the script's own when the command was never started. */
  async #checkStarted({ pid }: CommandFiles): Promise<void> {
    if ((await withTimeout(CHECK_STARTED_TIMEOUT_MS, () => this.#lease.sftp.lstat(pid))) !== undefined) return;
    throw new EnvironmentFailedError(
      'workspace_unusable',
      `${this.location} cannot be entered, or nothing be written beside it; was it removed, or is the disk full?`,
    );
  }
}
