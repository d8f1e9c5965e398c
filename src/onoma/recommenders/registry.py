"""Names of recommenders to classes, imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from onoma.errors import OnomaError

if TYPE_CHECKING:
    from onoma.recommenders.base import Recommender

RECOMMENDERS = {
    "random": "onoma.recommenders.baselines.chance:Random",
    "popular": "onoma.recommenders.baselines.popular:MostPopular",
    "markov": "onoma.recommenders.baselines.markov:Markov",
    "graph": "onoma.recommenders.baselines.graph:GraphWalk",
    "itemknn": "onoma.recommenders.baselines.itemknn:ItemKNN",
    "liked": "onoma.recommenders.baselines.liked:Liked",
    "liked-texts": "onoma.recommenders.baselines.liked_texts:LikedTexts",
    "liked-sasrec": "onoma.recommenders.baselines.liked_sasrec:LikedSASRec",
    "userknn": "onoma.recommenders.baselines.userknn:UserKNN",
    "ease": "onoma.recommenders.baselines.ease:EASE",
    "multvae": "onoma.recommenders.autoencoders.multvae:MultVAE",
    "lightgcn": "onoma.recommenders.collaborative.lightgcn:LightGCN",
    "alpharec": "onoma.recommenders.bridged.alpharec:AlphaRec",
    "llminit": "onoma.recommenders.bridged.llminit:LLMInit",
    "augmented-mlp": "onoma.recommenders.bridged.augmented:AugmentedMLP",
    "llm-kt": "onoma.recommenders.bridged.llmkt:LLMKT",
    "pad": "onoma.recommenders.bridged.pad:PAD",
    "llm-srec": "onoma.recommenders.bridged.llmsrec:LLMSRec",
    "a-llmrec": "onoma.recommenders.bridged.allmrec:ALLMRec",
    "ilm": "onoma.recommenders.bridged.ilm:ILM",
    "slmrec": "onoma.recommenders.bridged.slmrec:SLMRec",
    "hllm": "onoma.recommenders.bridged.hllm:HLLM",
    "bigrec": "onoma.recommenders.tuned.bigrec:BIGRec",
    "lmrec": "onoma.recommenders.tuned.lmrec:LMRec",
    "sasrec": "onoma.recommenders.sequential.sasrec:SASRec",
    "bert4rec": "onoma.recommenders.sequential.bert4rec:BERT4Rec",
    "hstu": "onoma.recommenders.sequential.hstu:HSTU",
    "gru": "onoma.recommenders.sequential.gru:GRU4Rec",
    "cnn": "onoma.recommenders.sequential.cnn:CNN",
    "cape": "onoma.recommenders.sequential.cape:CAPE",
    "rearec": "onoma.recommenders.sequential.rearec:ReaRec",
    "consrec": "onoma.recommenders.sequential.consrec:ConsRec",
    "meta-prod2vec": "onoma.recommenders.sequential.metaprod2vec:MetaProd2Vec",
    "packed": "onoma.recommenders.generative.packed:Packed",
    "tiger": "onoma.recommenders.generative.tiger:Tiger",
    "p5": "onoma.recommenders.text.p5:P5",
    "lcrec": "onoma.recommenders.text.lcrec:LCRec",
    "lite-llm4rec": "onoma.recommenders.generative.lite:LiteLLM4Rec",
    "elmrec": "onoma.recommenders.generative.elmrec:ELMRec",
    "mmgrec": "onoma.recommenders.generative.mmgrec:MMGRec",
    "onerec": "onoma.recommenders.generative.onerec:OneRec",
    "rsllm": "onoma.recommenders.tuned.rsllm:RSLLM",
    "sasrecllm": "onoma.recommenders.tuned.sasrecllm:SASRecLLM",
    "tallrec": "onoma.recommenders.tuned.tallrec:TALLRec",
    "mender": "onoma.recommenders.text.mender:Mender",
    "recsysllm": "onoma.recommenders.text.recsysllm:RecSysLLM",
    "knn-embed": "onoma.recommenders.retrieval.knnembed:KNNEmbed",
    "grank": "onoma.recommenders.retrieval.grank:GRank",
    "corr": "onoma.recommenders.retrieval.corr:CoRR",
    "synergen": "onoma.recommenders.retrieval.synergen:SynerGen",
    "keywords": "onoma.recommenders.retrieval.keywords:Keywords",
    "keyword-overlap": "onoma.recommenders.retrieval.keywords:KeywordOverlap",
    "recgpt": "onoma.recommenders.retrieval.recgpt:RecGPT",
    "din": "onoma.recommenders.ranking.din:DIN",
    "dare": "onoma.recommenders.ranking.dare:DARE",
    "fintrec": "onoma.recommenders.ranking.fintrec:FinTRec",
    "onepiece": "onoma.recommenders.ranking.onepiece:OnePiece",
    "llmcf": "onoma.recommenders.ranking.llmcf:LLMCF",
    "keywords-llm": "onoma.recommenders.language.keywords:KeywordRanker",
    "profile-llm": "onoma.recommenders.language.profile:ProfileRanker",
    "preference-llm": "onoma.recommenders.language.preference:Preference",
    "cascade": "onoma.recommenders.cascade:Cascade",
    "likelihood-llm": "onoma.recommenders.language.likelihood:Likelihood",
    "pointwise-llm": "onoma.recommenders.language.pointwise:PointWise",
    "pairwise-llm": "onoma.recommenders.language.pairwise:PairWise",
    "listwise-llm": "onoma.recommenders.language.listwise:ListWise",
    "pick-llm": "onoma.recommenders.language.pick:Pick",
    "titles-llm": "onoma.recommenders.language.titles:Titles",
    "flagship": "onoma.recommenders.generative.flagship:Flagship",
}


def recommender(name: str) -> type[Recommender]:
    """The class of a recommender.

    Raises:
        OnomaError: no recommender has this name.
    """
    if name not in RECOMMENDERS:
        raise OnomaError(
            f"no recommender is called {name!r}",
            where="recipe",
            fix=f"Use one of {', '.join(RECOMMENDERS)}",
        )
    module, _, attribute = RECOMMENDERS[name].partition(":")
    cls: type[Recommender] = getattr(import_module(module), attribute)
    return cls
