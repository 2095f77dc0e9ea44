import { metadataSchema, parse } from '../../contracts/index.ts';
import type { EnvironmentDriver, Metadata } from '../../contracts/index.ts';
import { sshConfigSchema } from '../../ssh/config.ts';
import type { ControlDriver } from './driver.ts';

/** What the environments of a driver are configured with. */
export type DriverConfigSchema = Pick<ControlDriver, 'name' | 'configSchema'>;

/** Of the drivers that come with Lessor. The config of `Local` is its owner's own. */
const BUILT_IN: readonly DriverConfigSchema[] = [{ name: 'ssh', configSchema: sshConfigSchema }];

/** Checks configs of environments before they are stored: what a driver could not work with is refused. */
export class DriverConfigs {
  readonly #schemas: ReadonlyMap<EnvironmentDriver, DriverConfigSchema['configSchema']>;

  /** @param drivers of the service's own; one of the name `ssh` takes the place of Lessor's */
  constructor(drivers: readonly DriverConfigSchema[] = []) {
    this.#schemas = new Map([...BUILT_IN, ...drivers].map(({ name, configSchema }) => [name, configSchema]));
  }

  /**
   * The config as it is to be stored, with its defaults.
   * @throws {InvalidPayloadError} naming each field that does not fit; values are not repeated
   */
  parse(driver: EnvironmentDriver, config: Metadata): Metadata {
    const schema = this.#schemas.get(driver);
    if (schema === undefined) return config;
    return parse(metadataSchema, parse(schema, config, `config of an environment of the kind ${driver}`), 'config');
  }
}
