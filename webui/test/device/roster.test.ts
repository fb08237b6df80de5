// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Link } from "../../src/connection/link";
import { Roster } from "../../src/device/roster";
import type { DeviceData } from "../../src/wire/generated";
import { Network, settle } from "../connection/network";
import { device } from "./device";

let network: Network;
let link: Link;
let roster: Roster;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"] });
  network = new Network();
  link = new Link(network.open);
  roster = new Roster(link);
  link.start();
});

afterEach(() => {
  link.stop();
  vi.useRealTimers();
});

async function tell(...devices: DeviceData[]): Promise<void> {
  await settle();
  network.wire.reply("device_list", { devices, auth: true, pairings: [] });
  await settle();
}

const names = (): string[] | undefined => roster.list.value?.map(({ name }) => name);
const askings = (): number => network.wire.sent.filter(({ type }) => type === "device_list").length;

test("it asks as soon as there is a connection, and again and again while somebody looks", async () => {
  const stop = roster.follow(1000);
  expect(roster.list.value).toBeNull();
  network.wire.accept();
  await tell(device("phone"), device("here", { current: true }));
  expect(names()).toEqual(["here", "phone"]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(askings()).toBe(2);
  dispatchEvent(new Event("focus"));
  await settle();
  expect(askings()).toBe(3);
  stop();
  await vi.advanceTimersByTimeAsync(5000);
  dispatchEvent(new Event("focus"));
  expect(askings()).toBe(3);
});

test("a page that nobody sees asks for nothing", async () => {
  const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
  const stop = roster.follow(1000);
  network.wire.accept();
  await tell();
  await vi.advanceTimersByTimeAsync(5000);
  expect(askings()).toBe(1);
  hidden.mockReturnValue(false);
  document.dispatchEvent(new Event("visibilitychange"));
  await settle();
  expect(askings()).toBe(2);
  stop();
  hidden.mockRestore();
});

test("what the server says against it is told, and gone once it answers", async () => {
  network.wire.accept();
  void roster.refresh();
  await settle();
  network.wire.refuse("device_list", "FORBIDDEN", "This device may only watch.");
  await settle();
  expect(roster.problem.value).toBe("This device may only watch.");
  void roster.refresh();
  await tell(device("phone"));
  expect(roster.problem.value).toBe("");
});

test("without a connection what was known stays, and nothing is said that the page says anyhow", async () => {
  network.wire.accept();
  void roster.refresh();
  await tell(device("phone"));
  void roster.refresh();
  await settle();
  network.wire.drop();
  await settle();
  await roster.refresh();
  expect(names()).toEqual(["phone"]);
  expect(roster.problem.value).toBe("");
});

test("what is done shows at once, and an answer from before does not undo it", async () => {
  network.wire.accept();
  void roster.refresh();
  await tell(device("phone"), device("desk"));
  void roster.refresh(); // on its way
  const revoked = roster.revoke("phone", { kill: false, paired: false });
  await settle();
  network.wire.reply("device_revoke", { device_id: "phone", revoked: ["phone"], withdrawn: 0, running: [] });
  await revoked;
  expect(names()).toEqual(["desk"]);
  const first = network.wire.sent.filter(({ type }) => type === "device_list")[1];
  const late = { devices: [device("phone"), device("desk")], auth: true, pairings: [] };
  network.wire.say({ type: "device_list", request_id: first?.request_id, data: late });
  await settle();
  expect(names()).toEqual(["desk"]);
});

test("a device is renamed, and keeps its name when the server does not take the other", async () => {
  network.wire.accept();
  void roster.refresh();
  await tell(device("phone"));
  const renamed = roster.rename("phone", "kitchen");
  await settle();
  network.wire.reply("device_rename", device("kitchen", { id: "phone" }));
  await renamed;
  expect(names()).toEqual(["kitchen"]);
  const refused = roster.rename("phone", "desk");
  await settle();
  network.wire.refuse("device_rename", "VALIDATION_FAILED", "There is a device named 'desk' already.");
  await expect(refused).rejects.toThrow("already");
  expect(names()).toEqual(["kitchen"]);
});

test("a token that is replaced is told, and its connections are gone", async () => {
  network.wire.accept();
  void roster.refresh();
  await tell(device("script", { connections: 2 }));
  const rotated = roster.rotate("script", false);
  await settle();
  network.wire.reply("device_rotate", { device_id: "script", token: "pa_new" });
  expect((await rotated).token).toBe("pa_new");
  expect(roster.list.value?.[0]?.connections).toBe(0);
});

test("a server that lets everybody in is known by that", async () => {
  network.wire.accept();
  void roster.refresh();
  await settle();
  network.wire.reply("device_list", { devices: [], auth: false, pairings: [] });
  await settle();
  expect(roster.isOpen.value).toBe(true);
});
