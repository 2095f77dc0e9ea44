import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { defaultText, parseSettingText, settingName, settingRequirement } from '../../src/commands/setting-text.ts';
import { setting, timerMsSchema } from '../../src/lib/settings.ts';

const pause = setting(timerMsSchema, {
  flag: '--pause <duration>',
  variable: 'PAUSE',
  unit: 'milliseconds',
  description: 'pause',
  example: '5s',
}).default(90_000);
const ttl = setting(z.int().min(1).max(86_400), { flag: '--ttl <duration>', unit: 'seconds', description: 'ttl' });

describe('a setting with a unit', () => {
  test.for([
    ['500ms', 500],
    ['90s', 90_000],
    ['1.5m', 90_000],
    ['90', 90_000],
    ['24d', 2_073_600_000],
  ] as const)('reads %s as milliseconds', ([text, milliseconds]) => {
    expect(parseSettingText(pause, text)).toBe(milliseconds);
  });

  test.for(['soon', '', '25d', '0', '-5m', '1'.repeat(200), 'x'.repeat(200)])('rejects "%s"', (text) => {
    expect(pause.safeParse(parseSettingText(pause, text)).success).toBe(false);
  });

  test('in seconds rejects a fraction of one', () => {
    expect(parseSettingText(ttl, '2m')).toBe(120);
    expect(ttl.safeParse(parseSettingText(ttl, '1500ms')).success).toBe(false);
  });
});

test('a setting has its name, default and requirement from its schema, also when it is optional', () => {
  expect(settingName(pause.optional())).toBe('--pause (PAUSE)');
  expect(defaultText(pause)).toBe('90s');
  expect(settingRequirement(pause)).toBe('must be a duration of at least 1ms and at most 24d, such as 5s');
  expect(settingRequirement(ttl)).toBe('must be a duration in whole seconds of at least 1s and at most 1d');
});
