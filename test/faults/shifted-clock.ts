/** Preload of a worker: its clock is `CLOCK_SHIFT_MS` ahead. */
export const shift = Number(process.env['CLOCK_SHIFT_MS']);
if (!Number.isFinite(shift)) throw new Error('CLOCK_SHIFT_MS must be a number of milliseconds');

const RealDate = Date;

class ShiftedDate extends RealDate {
  constructor(...given: [] | [value: number | string | Date]) {
    if (given.length === 0) super(RealDate.now() + shift);
    else super(...given);
  }

  static override now(): number {
    return RealDate.now() + shift;
  }
}

globalThis.Date = ShiftedDate as DateConstructor;
