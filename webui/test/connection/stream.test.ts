import { beforeEach, expect, test } from "vitest";
import { Link } from "../../src/connection/link";
import { Stream, type Position, type StreamListener } from "../../src/connection/stream";
import type { ProjectJoinData } from "../../src/wire/generated";
import type { Frame } from "../../src/wire/frame";
import { Network, settle } from "./network";

class Listener implements StreamListener {
  readonly told: string[] = [];
  at: Position = { epoch: "e", offset: 3 };

  position(): Promise<Position> {
    return Promise.resolve(this.at);
  }

  joined(reply: ProjectJoinData, behind: boolean): void {
    this.told.push(`joined ${reply.offset} ${behind ? "behind" : "even"}`);
  }

  frame(frame: Frame): void {
    this.told.push(frame.offset === undefined ? frame.type : `entry ${frame.offset}`);
    if (frame.offset !== undefined) this.at = { epoch: this.at.epoch, offset: frame.offset };
  }

  lost(): void {
    this.told.push("lost");
    this.at = { epoch: "e2", offset: 10 };
  }

  failed(error: Error): void {
    this.told.push(`failed ${error.message}`);
  }
}

let network: Network;
let link: Link;
let listener: Listener;
let stream: Stream;

beforeEach(async () => {
  network = new Network();
  link = new Link(network.open);
  listener = new Listener();
  stream = new Stream(link, "p", listener);
  link.start();
  stream.start();
  network.wire.accept();
  await settle();
});

function entry(offset: number): void {
  network.wire.say({ type: "agent_message", project_id: "p", offset, data: {} });
}

function joined(offset: number, epoch = "e", recovered = true): void {
  network.wire.reply("project_join", { project_id: "p", epoch, offset, recovered, approvals: [], queue: [] });
}

test("it joins with the position that its listener has, and is live at the end of the log", () => {
  expect(network.wire.asked("project_join")).toMatchObject({
    conversation_id: "p",
    data: { since: { epoch: "e", offset: 3 }, large: "reference" },
  });
  expect(stream.state.value).toBe("catching-up");
  joined(5);
  expect(stream.state.value).toBe("catching-up");
  entry(4);
  expect(stream.state.value).toBe("catching-up");
  entry(5);
  expect(stream.state.value).toBe("live");
  entry(6);
  network.wire.say({ type: "queue_state", project_id: "p", data: { queue: [] } });
  expect(listener.told).toEqual(["joined 5 behind", "entry 4", "entry 5", "entry 6", "queue_state"]);
});

test("with nothing new it is live at once", () => {
  joined(3);
  expect([stream.state.value, listener.told]).toEqual(["live", ["joined 3 even"]]);
});

test("frames of other projects, and from before the join, are not its own", () => {
  entry(4);
  joined(3);
  network.wire.say({ type: "agent_message", project_id: "q", offset: 4, data: {} });
  expect(listener.told).toEqual(["joined 3 even"]);
});

test("after a reconnect it goes on from the last entry", async () => {
  joined(3);
  entry(4);
  network.wire.drop();
  expect(stream.state.value).toBe("offline");
  link.retry();
  network.wire.accept();
  await settle();
  expect(network.wire.asked("project_join").data).toEqual({ since: { epoch: "e", offset: 4 }, large: "reference" });
  joined(6);
  entry(5);
  entry(6);
  expect(listener.told.filter((told) => told.startsWith("entry"))).toEqual(["entry 4", "entry 5", "entry 6"]);
});

test.each([
  ["another epoch", "e9", true],
  ["entries that are gone", "e", false],
])("a log that cannot be continued is begun again: %s", async (_, epoch, recovered) => {
  joined(20, epoch, recovered);
  entry(1); // of the log from its beginning, which is not wanted
  await settle();
  expect(network.wire.asked("project_join").data).toMatchObject({ since: { epoch: "e2", offset: 10 } });
  joined(10, "e2");
  expect(listener.told).toEqual(["lost", "joined 10 even"]);
});

test.each([5, 3, 1])("an entry %i where 4 is due makes it begin again", async (offset) => {
  joined(3);
  entry(offset);
  await settle();
  expect(listener.told).toEqual(["joined 3 even", "lost"]);
  expect(network.wire.sent.filter(({ type }) => type === "project_join")).toHaveLength(2);
});

test("a deleted project is told", async () => {
  network.wire.refuse("project_join", "PROJECT_NOT_FOUND", "gone");
  await settle();
  expect(listener.told).toEqual(["failed gone"]);
});

test("what is older than the join is a replay", () => {
  joined(5);
  const at = (offset?: number): Frame => ({
    type: "queue_state",
    timestamp: "",
    data: { queue: [] },
    ...(offset === undefined ? {} : { offset }),
  });
  expect([at(4), at(5), at(6), at()].map((frame) => stream.isReplay(frame))).toEqual([true, true, false, false]);
});

test("when it stops it leaves, and hears nothing any more", () => {
  joined(3);
  expect(stream.stop()).toBe(false);
  entry(4);
  expect(network.wire.asked("project_leave").conversation_id).toBe("p");
  expect(listener.told).toEqual(["joined 3 even"]);
});

test("stopping tells whether entries were still to come", () => {
  joined(9);
  expect(stream.stop()).toBe(true);
});
