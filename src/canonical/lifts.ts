import { closeAttention, scoresOf } from "./lift-attention.ts";
import { liftContribAttention, liftMultiHeadAttention } from "./lift-contrib-attention.ts";
import {
  liftBinary,
  liftClip,
  liftGelu,
  liftQuickGelu,
  liftReduceMean,
  liftUnary,
  liftWhere,
} from "./lift-elementwise.ts";
import { liftExperts } from "./lift-experts.ts";
import { liftFusedMatMul } from "./lift-fused-product.ts";
import {
  liftAttention,
  liftGroupQueryAttention,
  liftRotaryEmbedding,
  liftTensorScatter,
} from "./lift-fused-attention.ts";
import { liftDynamicQuantizeMatMul, liftMatMulIntegerToFloat, liftQLinearMatMul } from "./lift-integer-products.ts";
import {
  liftFusedGemm,
  liftGather,
  liftGatherBlockQuantized,
  liftMatMul,
  liftMatMulBnb4,
  liftMatMulNBits,
  liftProducts,
} from "./lift-linear.ts";
import { liftNorm, liftSkipNorm } from "./lift-norm.ts";
import { liftDequantize, liftDynamicQuantize, liftMatMulInteger } from "./lift-quantised.ts";
import { liftQuantize } from "./lift-on-grid.ts";
import { liftPeak, liftSoftmax } from "./lift-softmax.ts";
import { formAt, valueOf, type Lift } from "./lifter.ts";
import { gatherRows, liftGatherNd, liftScatter } from "./lift-scatter.ts";
import { liftEqual, liftGatherElements, liftNot, liftOneHot, liftTopK } from "./lift-router.ts";
import { liftReduceSum } from "./lift-sum.ts";
import { liftNonZero } from "./selection.ts";
import { Unliftable } from "./value.ts";

/** MatMul is a projection, q·kᵀ, or probabilities × values, by what its operands turned out to be. */
const liftProduct: Lift = (lifter, node) => {
  const left = valueOf(lifter, node, 0);
  const right = valueOf(lifter, node, 1);
  if (left.kind === "probabilities" && right.kind === "form") return [closeAttention(lifter, node, left, right)];
  if (left.kind === "form" && right.kind === "form") return [scoresOf(node, left, right)];
  if (left.kind === "form" && right.kind === "known" && right.dims.length === 3)
    return [liftProducts(lifter, node, left, right)];
  return liftMatMul(lifter, node);
};

/** Gather by token is the embedding; by known positions, a choice (of the last token before the head). */
const liftPick: Lift = (lifter, node) => {
  const indices = valueOf(lifter, node, 1);
  if (indices.kind === "form") return liftGather(lifter, node);
  if (indices.kind !== "known") throw new Unliftable(node.name, `Gather by ${indices.kind}`);
  return [gatherRows(lifter, node, { data: formAt(lifter, node, 0), indices })];
};

/** What each operator means for values that depend on the text. Adding an operator is adding a line and its file. */
export const LIFTS: Record<string, Lift> = {
  MatMul: liftProduct,
  Gemm: liftMatMul,
  "com.microsoft.FusedGemm": liftFusedGemm,
  "com.microsoft.FusedMatMul": liftFusedMatMul,
  "com.microsoft.MatMulNBits": liftMatMulNBits,
  Gather: liftPick,
  "com.microsoft.GatherBlockQuantized": liftGatherBlockQuantized,
  SimplifiedLayerNormalization: liftNorm,
  RMSNormalization: liftNorm,
  LayerNormalization: liftNorm,
  "com.microsoft.SimplifiedLayerNormalization": liftNorm,
  "com.microsoft.SkipSimplifiedLayerNormalization": liftSkipNorm,
  "com.microsoft.SkipLayerNormalization": liftSkipNorm,
  Softmax: liftSoftmax,
  ReduceMax: liftPeak,
  TopK: liftTopK,
  OneHot: liftOneHot,
  Equal: liftEqual,
  Not: liftNot,
  GatherElements: liftGatherElements,
  GatherND: liftGatherNd,
  NonZero: liftNonZero,
  ScatterElements: liftScatter,
  ScatterND: liftScatter,
  ReduceSum: liftReduceSum,
  Attention: liftAttention,
  TensorScatter: liftTensorScatter,
  "com.microsoft.GroupQueryAttention": liftGroupQueryAttention,
  "com.microsoft.MultiHeadAttention": liftMultiHeadAttention,
  "com.microsoft.Attention": liftContribAttention,
  "com.microsoft.MoE": liftExperts,
  "com.microsoft.QMoE": liftExperts,
  "com.microsoft.MatMulBnb4": liftMatMulBnb4,
  RotaryEmbedding: liftRotaryEmbedding,
  "com.microsoft.RotaryEmbedding": liftRotaryEmbedding,
  DequantizeLinear: liftDequantize,
  DynamicQuantizeLinear: liftDynamicQuantize,
  MatMulInteger: liftMatMulInteger,
  QuantizeLinear: liftQuantize,
  QLinearMatMul: liftQLinearMatMul,
  "com.microsoft.MatMulIntegerToFloat": liftMatMulIntegerToFloat,
  "com.microsoft.DynamicQuantizeMatMul": liftDynamicQuantizeMatMul,
  Clip: liftClip,
  Where: liftWhere,
  ReduceMean: liftReduceMean,
  Gelu: liftGelu,
  "com.microsoft.Gelu": liftGelu,
  "com.microsoft.FastGelu": liftGelu,
  "com.microsoft.BiasGelu": liftGelu,
  "com.microsoft.QuickGelu": liftQuickGelu,
  ...Object.fromEntries(["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"].map((name) => [name, liftBinary])),
  ...Object.fromEntries(
    ["Sigmoid", "Tanh", "Erf", "Exp", "Relu", "Sqrt", "Reciprocal", "Softplus", "Abs", "Neg"].map((name) => [
      name,
      liftUnary,
    ]),
  ),
};
