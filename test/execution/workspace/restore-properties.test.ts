import { rm } from 'node:fs/promises';
import { array, assert, asyncProperty, constant, constantFrom, oneof, tuple } from 'fast-check';
import { expect, test } from 'vitest';
import type { Content } from '../directories.ts';
import { TwoSides } from './two-sides.ts';
import type { Changes } from './two-sides.ts';

type Step = readonly [path: string, content: Content | undefined];

const path = array(constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }).map((names) => names.join('/'));
const content = oneof(
  constantFrom<Content>('one', 'two', 'three'),
  constantFrom<Content | undefined>(null, undefined),
  constant<Content>({ symlink: 'nowhere' }),
);
const steps = array(tuple(path, content), { maxLength: 6 });

test('a restore of random changes on both sides loses nothing of either', async () => {
  await assert(
    asyncProperty(steps, steps, steps, async (stepsBefore, stepsHere, stepsThere) => {
      const sides = await TwoSides.after((change) => changeBy(change, stepsBefore));
      try {
        const origin = await sides.contentsHere();
        await changeBy((changes) => sides.changeHere(changes), stepsHere);
        await changeBy((changes) => sides.changeThere(changes), stepsThere);
        const [here, there] = [await sides.contentsHere(), await sides.contentsThere()];
        const { conflicts } = await sides.restore();
        const restored = await sides.contentsHere();
        const aside = await sides.conflictsHere();

        for (const at of differing(here, origin)) expect(restored[at], `${at}, which changed here`).toEqual(here[at]);
        for (const at of differing(there, origin))
          expect([restored[at], aside[at]], `${at}, which changed there`).toContainEqual(there[at]);
        const expected = stepsHere.length === 0 ? { restored: there, conflicts: [] } : { restored, conflicts };
        expect({ restored, conflicts }, 'what is here when nothing changed here').toEqual(expected);
        await sides.restore();
        expect(await sides.contentsHere(), 'what a second restore does').toEqual(restored);
      } finally {
        for (const directory of [sides.here, sides.there]) await rm(directory, { recursive: true });
      }
    }),
    { numRuns: 60 },
  );
});

/** What is there, and was not so before. */
function differing(contents: Record<string, string | null>, origin: Record<string, string | null>): string[] {
  return Object.keys(contents).filter((at) => contents[at] !== origin[at]);
}

/** Makes of text a file, of null a directory and of a target a symlink, as far as they do not stand in each other's way. */
async function changeBy(change: (changes: Changes) => Promise<void>, changes: readonly Step[]): Promise<void> {
  for (const [at, to] of changes) {
    await change({ [at]: to }).catch((error: NodeJS.ErrnoException) => {
      if (!['EEXIST', 'ENOENT', 'ENOTDIR'].includes(error.code ?? '')) throw error;
    });
  }
}
