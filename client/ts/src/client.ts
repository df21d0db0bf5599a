/**
 * A client of the state service: typed by openapi.yaml, with the care that a caller needs. Every write has an idempotency
 * key, a retry uses the same key, what is final is not tried again, and an unknown outcome is found out.
 *
 *   const client = new Client({ baseUrl: "http://127.0.0.1:8080", token: "ss_…" });
 *   const key = newKey(); // store it with the order, before the first attempt
 *   const { hold } = await client.hold(key, { owner: "user-1", order_id: "order-1", items: [ … ] });
 *
 * What has no method here is called through `client.raw`, one attempt at a time.
 */
import createFetchClient, { type Client as FetchClient } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
export type HoldRequest = Schemas["HoldRequest"];
export type HoldReply = Schemas["HoldReply"];
export type Hold = Schemas["Hold"];
export type ConfirmRequest = Schemas["ConfirmRequest"];
export type RefundRequest = Schemas["RefundRequest"];
export type RefundReply = Schemas["RefundReply"];
export type OrderRequest = Schemas["OrderRequest"];
export type IssueRequest = Schemas["IssueRequest"];
export type CouponReply = Schemas["CouponReply"];
export type CreditRequest = Schemas["CreditRequest"];
export type LotReply = Schemas["LotReply"];
export type CampaignRequest = Schemas["CampaignRequest"];
export type CampaignReply = Schemas["CampaignReply"];
export type PacketReply = Schemas["PacketReply"];
export type PacketRequest = Schemas["PacketRequest"];
export type GrabReply = Schemas["GrabReply"];
export type Quota = Schemas["Quota"];
export type QuotaReply = Schemas["QuotaReply"];
export type QuotaRequest = Schemas["QuotaRequest"];
export type Owner = Schemas["Owner"];
export type Entry = Schemas["Entry"];
export type Operation = Schemas["Operation"];
export type ProblemDocument = Schemas["Problem"];

/** A refusal, as the service describes it. */
export class Problem extends Error {
  override readonly name = "Problem";

  constructor(
    readonly document: ProblemDocument,
    readonly retryAfterMs: number,
  ) {
    super(`${document.status} ${document.code}: ${document.detail ?? document.title} (request ${document.request_id})`);
  }

  get code(): string {
    return this.document.code;
  }
}

export interface Options {
  baseUrl: string;
  /** An API key, ss_… */
  token: string;
  /** The deadline of one attempt; at most 30 s. */
  attemptMs?: number;
  /** How long a call goes on. */
  patienceMs?: number;
}

/** What openapi-fetch answers. */
interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** How much longer than its deadline an attempt waits for the words "outcome unknown". */
const hearingMs = 500;
const backoffFirstMs = 50;
const backoffMostMs = 2_000;
const pageSize = 200;

/** Makes an idempotency key, a UUIDv7. Store it before the first attempt. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const now = BigInt(Date.now());
  for (let i = 0; i < 6; i++) {
    bytes[i] = Number((now >> BigInt(8 * (5 - i))) & 0xffn);
  }
  bytes[6] = 0x70 | (bytes[6]! & 0x0f);
  bytes[8] = 0x80 | (bytes[8]! & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

export class Client {
  readonly raw: FetchClient<paths>;
  private readonly attemptMs: number;
  private readonly patienceMs: number;

  constructor(options: Options) {
    this.attemptMs = options.attemptMs ?? 2_000;
    this.patienceMs = options.patienceMs ?? 30_000;
    this.raw = createFetchClient<paths>({
      baseUrl: options.baseUrl,
      headers: { Authorization: `Bearer ${options.token}`, "Deadline-Ms": String(this.attemptMs) },
    });
  }

  /** Takes coupons and money for an order, all or nothing. */
  hold(key: string, body: HoldRequest): Promise<HoldReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/holds", { params: { header }, body, signal }),
    );
  }

  /** Spends what a hold has. */
  confirm(key: string, owner: string, holdId: string): Promise<HoldReply> {
    return this.write(owner, key, (header, signal) =>
      this.raw.POST("/v1/holds/{hold_id}/confirm", {
        params: { header, path: { hold_id: holdId } },
        body: { owner },
        signal,
      }),
    );
  }

  /** Spends a part of what a hold has, or everything of one that has expired. */
  confirmPart(key: string, holdId: string, body: ConfirmRequest): Promise<HoldReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/holds/{hold_id}/confirm", { params: { header, path: { hold_id: holdId } }, body, signal }),
    );
  }

  /** Makes a hold in the place of an older one of the same order, in one step. */
  replace(key: string, holdId: string, body: HoldRequest): Promise<HoldReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/holds/{hold_id}/replace", { params: { header, path: { hold_id: holdId } }, body, signal }),
    );
  }

  /** Gives back what a hold has confirmed, once per refund_ref. */
  refund(key: string, holdId: string, body: RefundRequest): Promise<RefundReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/holds/{hold_id}/refunds", { params: { header, path: { hold_id: holdId } }, body, signal }),
    );
  }

  /** Gives back what a hold has. */
  cancel(key: string, owner: string, holdId: string): Promise<HoldReply> {
    return this.write(owner, key, (header, signal) =>
      this.raw.POST("/v1/holds/{hold_id}/cancel", {
        params: { header, path: { hold_id: holdId } },
        body: { owner },
        signal,
      }),
    );
  }

  /** confirm for callers who know the order only. */
  confirmOrder(key: string, body: OrderRequest): Promise<HoldReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/holds/confirm", { params: { header }, body, signal }),
    );
  }

  /** cancel for callers who know the order only. An attempt that was never seen leaves a tombstone. */
  cancelOrder(key: string, body: OrderRequest): Promise<HoldReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/holds/cancel", { params: { header }, body, signal }),
    );
  }

  /** Gives an owner a coupon of a campaign, once per reference. */
  issueCoupon(key: string, campaignId: string, body: IssueRequest): Promise<CouponReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/campaigns/{campaign_id}/issues", {
        params: { header, path: { campaign_id: campaignId } },
        body,
        signal,
      }),
    );
  }

  /** Gives an owner money, once per reference. */
  creditLot(key: string, owner: string, body: CreditRequest): Promise<LotReply> {
    return this.write(owner, key, (header, signal) =>
      this.raw.POST("/v1/owners/{owner}/lots", { params: { header, path: { owner } }, body, signal }),
    );
  }

  /** Makes a campaign from which owners claim coupons. */
  createCampaign(key: string, body: CampaignRequest): Promise<CampaignReply> {
    return this.write(`campaign:${body.campaign_id}`, key, (header, signal) =>
      this.raw.POST("/v1/campaigns", { params: { header }, body, signal }),
    );
  }

  /** Asks a campaign for a coupon, once per reference. */
  claim(key: string, campaignId: string, body: { owner: string; claim_ref: string }): Promise<CouponReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/campaigns/{campaign_id}/claims", { params: { header, path: { campaign_id: campaignId } }, body, signal }),
    );
  }

  /** Puts money of an owner into a packet for others to grab. */
  createPacket(key: string, body: PacketRequest): Promise<PacketReply> {
    return this.write(body.owner, key, (header, signal) =>
      this.raw.POST("/v1/packets", { params: { header }, body, signal }),
    );
  }

  /** Gives an owner his share of a packet, the same one however often he asks. The money may still be on its way. */
  grab(key: string, packetId: string, owner: string): Promise<GrabReply> {
    return this.write(owner, key, (header, signal) =>
      this.raw.POST("/v1/packets/{packet_id}/grabs", { params: { header, path: { packet_id: packetId } }, body: { owner }, signal }),
    );
  }

  /** Makes the stock of a SKU at a location, or sets how many pieces there are in all. */
  setStock(key: string, sku: string, location: string, body: QuotaRequest): Promise<QuotaReply> {
    return this.write(`stock:${sku}:${location}`, key, (header, signal) =>
      this.raw.PUT("/v1/stock/{sku}/{location}", { params: { header, path: { sku, location } }, body, signal }),
    );
  }

  /** Reads the stock of a SKU at a location. */
  stock(sku: string, location: string): Promise<Quota> {
    return this.read((signal) =>
      this.raw.GET("/v1/stock/{sku}/{location}", { params: { path: { sku, location } }, signal }),
    );
  }

  /** Shows a hold, live or decided. */
  getHold(holdId: string): Promise<Hold> {
    return this.read((signal) => this.raw.GET("/v1/holds/{hold_id}", { params: { path: { hold_id: holdId } }, signal }));
  }

  /** Sums up an owner. */
  owner(owner: string): Promise<Owner> {
    return this.read((signal) => this.raw.GET("/v1/owners/{owner}", { params: { path: { owner } }, signal }));
  }

  /** Says what became of a key. */
  operation(owner: string, key: string): Promise<Operation> {
    return this.read((signal) => this.askOperation(owner, key, signal));
  }

  /** Makes sure that a key is never used any more, or says what it did. */
  seal(owner: string, key: string): Promise<Operation> {
    return this.read((signal) =>
      this.raw.POST("/v1/owners/{owner}/operations/{key}/seal", { params: { path: { owner, key } }, signal }),
    );
  }

  /** Goes through an owner's history, oldest first, page by page. */
  async *entries(owner: string): AsyncGenerator<Entry> {
    for (let cursor: string | undefined; ; ) {
      const query = { limit: pageSize, ...(cursor === undefined ? {} : { cursor }) };
      const page = await this.read((signal) =>
        this.raw.GET("/v1/owners/{owner}/entries", { params: { path: { owner }, query }, signal }),
      );
      yield* page.entries;
      if (page.next_cursor === undefined) {
        return;
      }
      cursor = page.next_cursor;
    }
  }

  private askOperation(owner: string, key: string, signal: AbortSignal) {
    return this.raw.GET("/v1/owners/{owner}/operations/{key}", { params: { path: { owner, key } }, signal });
  }

  /** Sends a write until it is decided. An unknown outcome is asked for before the same key is sent again. */
  private write<T>(
    owner: string,
    key: string,
    send: (header: { "Idempotency-Key": string }, signal: AbortSignal) => Promise<Answer<T>>,
  ): Promise<T> {
    return this.untilDecided(
      (signal) => send({ "Idempotency-Key": key }, signal),
      async () => {
        const operation = await once(this.askOperation(owner, key, AbortSignal.timeout(this.attemptMs + hearingMs)));
        return operation.status === "DONE" ? (operation.reply as T) : undefined;
      },
    );
  }

  private read<T>(send: (signal: AbortSignal) => Promise<Answer<T>>): Promise<T> {
    return this.untilDecided(send, () => Promise.resolve(undefined));
  }

  private async untilDecided<T>(
    send: (signal: AbortSignal) => Promise<Answer<T>>,
    resolve: () => Promise<T | undefined>,
  ): Promise<T> {
    const deadline = Date.now() + this.patienceMs;
    for (let attempt = 0; ; attempt++) {
      try {
        return await once(send(AbortSignal.timeout(this.attemptMs + hearingMs)));
      } catch (error) {
        const wait = pause(error, attempt);
        if (wait === undefined || Date.now() + wait > deadline) {
          throw error;
        }
        await new Promise((done) => setTimeout(done, wait));
        if (!(error instanceof Problem) || error.document.outcome !== "none") {
          const reply = await resolve().catch(() => undefined); // sending the same key is as good as asking
          if (reply !== undefined) {
            return reply;
          }
        }
      }
    }
  }
}

/** How long to wait before the next attempt; undefined if there must be none. */
function pause(error: unknown, attempt: number): number | undefined {
  const backoff = Math.random() * Math.min(backoffFirstMs * 2 ** attempt, backoffMostMs);
  if (error instanceof Problem) {
    return error.document.retryable ? error.retryAfterMs + backoff : undefined;
  }
  return backoff; // the connection failed
}

/** Waits for one answer and throws what is no reply. */
async function once<T>(sent: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await sent;
  if (response.ok) {
    return data as T;
  }
  const retryAfterMs = 1_000 * (Number(response.headers.get("Retry-After")) || 0);
  throw new Problem(isProblem(error) ? error : strange(response), retryAfterMs);
}

function isProblem(error: unknown): error is ProblemDocument {
  return typeof error === "object" && error !== null && "code" in error && "retryable" in error;
}

/** Something in between, such as a proxy, has answered without a document; only the status says what to do. */
function strange(response: Response): ProblemDocument {
  return {
    type: "about:blank",
    title: response.statusText,
    status: response.status,
    code: "",
    retryable: response.status >= 500 || response.status === 429,
    outcome: "unknown",
    request_id: response.headers.get("X-Request-Id") ?? "",
  };
}
