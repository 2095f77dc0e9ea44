import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { CONFIGURATION_PATH, renderConfigurationDocs } from '../../scripts/configuration-docs.ts';

test('docs/configuration.md is what `npm run docs:configuration` writes', async () => {
  expect(await readFile(CONFIGURATION_PATH, 'utf8')).toBe(await renderConfigurationDocs());
});
