import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  assertLeaseDirectory,
  commandsDirectoryOf,
  leaseDirectoryOf,
  workspacePathOf,
} from '../../src/ssh/lease-directory.ts';

const config = { remoteWorkspacePath: '/srv/agents', workspaceMode: 'staged' as const };

test('a lease directory is below the workspace path, named after its lease', () => {
  const leaseId = randomUUID();
  const directory = leaseDirectoryOf(config, leaseId);
  expect(directory).toBe(`/srv/agents/.lessor/${leaseId}`);
  expect(workspacePathOf(config, directory)).toBe(`${directory}/workspace`);
  expect(workspacePathOf({ ...config, workspaceMode: 'in_place' }, directory)).toBe('/srv/agents');
  expect(commandsDirectoryOf(directory)).toBe(`${directory}/commands`);
  expect(() => assertLeaseDirectory(config, directory)).not.toThrow();
});

describe('a path that is no lease directory of the environment is rejected:', () => {
  const id = randomUUID();
  test.each([
    '/srv/agents',
    '/srv/agents/.lessor',
    '/srv/agents/.lessor/',
    `/srv/agents/.lessor/${id}/`,
    `/srv/agents/.lessor/${id}/workspace`,
    `/srv/agents/.lessor/../${id}`,
    `/srv/agents/.lessor/../../.lessor/${id}`,
    `/srv/other/.lessor/${id}`,
    `srv/agents/.lessor/${id}`,
    '/srv/agents/.lessor/somebody',
    '/srv/agents/.lessor/..',
    `/srv/agents/.lessor//${id}`,
    `/srv/agents/.lessor/${id}\n`,
    '/',
    '',
  ])('%j', (directory) => {
    expect(() => assertLeaseDirectory(config, directory)).toThrow(
      expect.objectContaining({ code: 'workspace_unusable' }),
    );
  });

  test.each(['..', '', 'a/b', `${id}/..`])('the lease id %j', (leaseId) => {
    expect(() => leaseDirectoryOf(config, leaseId)).toThrow(expect.objectContaining({ code: 'workspace_unusable' }));
  });
});
