/**
 * What AWS asks, in US dollars and without tax, discounts or free tiers. A price that is not here is
 * unknown, and everything that it is part of says so: nothing is guessed from another region.
 *
 * EC2's are out of AWS's own price list. The others are what AWS publishes on the page that is named, as
 * it was quoted by the second source at that date: look there before you rely on one.
 */

export interface Price {
  usd: number;
  /** What it is the price of one of. */
  per: string;
  asOf: string;
  source: string;
}

interface PriceTable {
  region: string;
  per: string;
  asOf: string;
  source: string;
  usd: Readonly<Record<string, number>>;
}

const region = "us-east-1";
const page = (service: string, quotedBy: string): string =>
  `aws.amazon.com/${service}/pricing, as quoted by ${quotedBy}`;

const tables: readonly PriceTable[] = [
  {
    ...{ region, per: "hour", asOf: "2026-07-20" },
    source: "AWS Price List, as in Karpenter's zz_generated.pricing_aws.go",
    usd: {
      ...{ "p4d.24xlarge": 21.957642, "p4de.24xlarge": 27.44705 },
      ...{ "p5.48xlarge": 55.04, "p5en.48xlarge": 63.296 },
      ...{ "g5.xlarge": 1.006, "g5.12xlarge": 5.672, "g5.48xlarge": 16.288 },
      ...{ "g6.xlarge": 0.8048, "g6.12xlarge": 4.6016, "g6.48xlarge": 13.3504 },
      ...{ "g6e.xlarge": 1.861, "g6e.12xlarge": 10.49264, "g6e.48xlarge": 30.13118 },
      ...{ "c7a.4xlarge": 0.82112, "c7a.12xlarge": 2.46336 },
      ...{ "c7a.24xlarge": 4.92672, "c7a.48xlarge": 9.85344 },
      ...{ "c7i.4xlarge": 0.714, "c7i.12xlarge": 2.142 },
      ...{ "c7i.24xlarge": 4.284, "c7i.48xlarge": 8.568 },
      ...{ "m7g.large": 0.0816, "c7g.large": 0.0725, "c7g.xlarge": 0.145 },
    },
  },
  {
    ...{ region, per: "hour", asOf: "2026-01-31" },
    source: page("ec2/capacityblocks", "ec2-capacity-blocks-for-ml-pricing-json"),
    usd: {
      ...{ "block p4d.24xlarge": 11.8, "block p4de.24xlarge": 14.7663 },
      ...{ "block p5.48xlarge": 31.464, "block p5en.48xlarge": 41.612 },
    },
  },
  {
    ...{ region, per: "hour", asOf: "2026-04" },
    source: page("eks", "cloudburn.io/blog/amazon-eks-pricing"),
    usd: { "EKS cluster": 0.1 },
  },
  {
    ...{ region, per: "hour", asOf: "2026" },
    source: page("vpc", "backendstack.dev/post/reduce-eks-nat-gateway-costs-2026"),
    usd: { "NAT gateway": 0.045 },
  },
  {
    ...{ region, per: "hour", asOf: "2026-05" },
    source: page("elasticloadbalancing", "awsnegotiations.com/elastic-load-balancer-cost"),
    usd: { "network load balancer": 0.0225, NLCU: 0.006 },
  },
  {
    ...{ region, per: "hour", asOf: "2026-04" },
    // Redis OSS is 0.219 and 0.437; a node of Valkey costs a fifth less.
    source: page("elasticache", "cloudburn.io/blog/amazon-elasticache-pricing"),
    usd: { "cache.r7g.large": 0.1752, "cache.r7g.xlarge": 0.3496 },
  },
  {
    ...{ region, per: "hour", asOf: "2026" },
    source: page("rds/postgresql", "infratally.com/articles/aws-rds-pricing-explained-2026"),
    usd: {
      ...{ "db.t4g.medium multi-AZ": 0.13, "db.r7g.large multi-AZ": 0.478 },
      "db.r7g.2xlarge multi-AZ": 1.912,
    },
  },
  {
    ...{ region, per: "GB-month", asOf: "2026-06" },
    source: page("rds/postgresql", "usage.ai/blogs/aws/reserved-instances/rds/pricing-calculator"),
    usd: { "RDS gp3 multi-AZ": 0.23 },
  },
  {
    ...{ region, per: "million", asOf: "2025-05" },
    source: page("api-gateway", "awsforengineers.com/blog/aws-api-gateway-pricing-explained"),
    usd: { "WebSocket messages": 1, "WebSocket connection minutes": 0.25 },
  },
  {
    ...{ region, per: "million", asOf: "2026-05" },
    source: page("lambda", "git.mcrn.ar/mariano/lambda_local_runner"),
    usd: { "Lambda requests": 0.2, "Lambda arm64 GB-seconds": 13.3334 },
  },
  {
    ...{ region, per: "million", asOf: "2025-07" },
    source: page("dynamodb/on-demand", "airbyte.com/data-engineering-resources/dynamodb-pricing"),
    usd: { "DynamoDB writes": 0.625, "DynamoDB reads": 0.125 },
  },
  {
    ...{ region, per: "GB-month", asOf: "2025-07" },
    source: page("dynamodb/on-demand", "airbyte.com/data-engineering-resources/dynamodb-pricing"),
    usd: { "DynamoDB storage": 0.25 },
  },
  {
    ...{ region, per: "million", asOf: "2026-03" },
    // A standard queue whose messages name a group is a fair one, and costs more.
    source: page("sqs", "cloudburn.io/blog/amazon-sqs-pricing"),
    usd: { "SQS requests": 0.4, "SQS fair requests": 0.5, "SQS FIFO requests": 0.5 },
  },
  {
    ...{ region, per: "GB", asOf: "2025-05" },
    source: page("ec2/on-demand", "awsforengineers.com/blog/aws-api-gateway-pricing-explained"),
    usd: { "data to the internet": 0.09 },
  },
];

/** What AWS's calculators count a month as. */
export const hoursPerMonth = 730;

/** Undefined when it is not known there. */
export function findPrice(regionName: string, item: string): Price | undefined {
  const table = tables.find(({ region, usd }) => region === regionName && item in usd);
  const usd = table?.usd[item];
  if (table === undefined || usd === undefined) return undefined;
  const { per, asOf, source } = table;
  return { usd, per, asOf, source };
}
