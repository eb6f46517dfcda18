import { expect, test } from "vitest";
import { Channel } from "../../src/support/channel.ts";

test("what was pushed is read in order, also what came before the end", async () => {
  const channel = new Channel<number>();
  channel.push(1);
  channel.push(2);
  channel.close();
  channel.push(3);
  expect(await drain(channel)).toEqual([1, 2]);
});

test("a waiting reader gets what is pushed later", async () => {
  const channel = new Channel<number>();
  const next = channel.next();
  channel.push(7);
  expect(await next).toEqual({ value: 7, done: false });
  const last = channel.next();
  channel.close();
  expect(await last).toEqual({ value: undefined, done: true });
});

test("a failure comes after what was pushed before it, and once", async () => {
  const channel = new Channel<number>();
  channel.push(1);
  channel.fail(new Error("gone"));
  expect(await channel.next()).toEqual({ value: 1, done: false });
  await expect(channel.next()).rejects.toThrow("gone");
  expect(await channel.next()).toEqual({ value: undefined, done: true });
});

test("a waiting reader gets the failure", async () => {
  const channel = new Channel<number>();
  const next = channel.next();
  channel.fail(new Error("gone"));
  await expect(next).rejects.toThrow("gone");
  expect(await channel.next()).toEqual({ value: undefined, done: true });
});

test("a reader who leaves early tells, once, and only before the end", async () => {
  let told = 0;
  const channel = new Channel<number>(() => told++);
  channel.push(1);
  for await (const value of channel) if (value === 1) break;
  await channel.return();
  expect(told).toBe(1);
  const closed = new Channel<number>(() => told++);
  closed.close();
  await closed.return();
  expect(told).toBe(1);
});

async function drain<Value>(channel: Channel<Value>): Promise<Value[]> {
  const values: Value[] = [];
  for await (const value of channel) values.push(value);
  return values;
}
