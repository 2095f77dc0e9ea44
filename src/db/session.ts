/** Server settings by name. */
export type SessionSettings = Readonly<Record<string, string | number>>;

/** What Lessor's statements and both drivers' parsers rely on, whatever the role or the database sets. */
const FORMATS: SessionSettings = { TimeZone: 'UTC', DateStyle: 'ISO, MDY', extra_float_digits: 1 };

/**
 * The statements that prepare a new session. `set` instead of startup parameters, as PgBouncer rejects those that it
 * does not know.
 */
export function prepareSession(settings: SessionSettings = {}): string {
  return Object.entries({ ...FORMATS, ...settings })
    .map(([name, value]) => `set ${name} = '${value}'`)
    .join('; ');
}
