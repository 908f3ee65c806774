"""Text for the packaged models to read: reactions for the one that reads chemistry, English for the other."""

import hashlib

# Textbook reactions of organic chemistry, written as reaction SMILES for this file: reactants >> product.
REACTIONS = (
    # Ugi's four components; Hantzsch's dihydropyridine; Biginelli's dihydropyrimidinone
    "O=Cc1ccccc1.NCc1ccccc1.OC(C)=O.[C-]#[N+]C1CCCCC1>>CC(=O)N(Cc1ccccc1)C(c1ccccc1)C(=O)NC1CCCCC1",
    "CCOC(=O)CC(C)=O.CCOC(=O)CC(C)=O.O=Cc1ccccc1.N>>CCOC(=O)C1=C(C)NC(C)=C(C(=O)OCC)C1c1ccccc1",
    "NC(N)=O.O=Cc1ccccc1.CCOC(=O)CC(C)=O>>CCOC(=O)C1=C(C)NC(=O)NC1c1ccccc1",
    # aspirin, paracetamol, lidocaine
    "OC(=O)c1ccccc1O.CC(=O)OC(C)=O>>CC(=O)Oc1ccccc1C(O)=O",
    "Nc1ccc(O)cc1.CC(=O)OC(C)=O>>CC(=O)Nc1ccc(O)cc1",
    "Cc1cccc(C)c1NC(=O)CCl.CCNCC>>CCN(CC)CC(=O)Nc1c(C)cccc1C",
    # Suzuki, Heck, Sonogashira and Buchwald-Hartwig couplings
    "OB(O)c1ccccc1.Brc1ccc(C)cc1>>Cc1ccc(-c2ccccc2)cc1",
    "C=CC(=O)OC.Ic1ccccc1>>COC(=O)C=Cc1ccccc1",
    "C#Cc1ccccc1.Ic1ccccc1>>C(#Cc1ccccc1)c1ccccc1",
    "C1COCCN1.Brc1ccccc1>>C1COCCN1c1ccccc1",
    # Diels-Alder, Robinson annulation, Pictet-Spengler, azide-alkyne cycloaddition
    "C=CC=C.O=C1C=CC(=O)O1>>O=C1OC(=O)C2CC=CCC12",
    "O=C1CCCCC1.C=CC(C)=O>>O=C1C=C2CCCCC2CC1",
    "NCCc1c[nH]c2ccccc12.O=Cc1ccccc1>>c1ccc(C2NCCc3c2[nH]c2ccccc32)cc1",
    "[N-]=[N+]=NCc1ccccc1.C#Cc1ccccc1>>c1ccc(Cn2cc(-c3ccccc3)nn2)cc1",
    # Fischer's indole and Paal-Knorr's pyrrole
    "NNc1ccccc1.CCC(C)=O>>Cc1[nH]c2ccccc2c1C",
    "CC(=O)CCC(C)=O.Nc1ccccc1>>Cc1ccc(C)n1-c1ccccc1",
    # aldol, Claisen, Michael, Mannich and Knoevenagel
    "CC(=O)c1ccccc1.O=Cc1ccccc1>>O=C(C=Cc1ccccc1)c1ccccc1",
    "CCOC(C)=O.CCOC(C)=O>>CCOC(=O)CC(C)=O",
    "C=CC(C)=O.CCOC(=O)CC(=O)OCC>>CCOC(=O)C(CCC(C)=O)C(=O)OCC",
    "CC(=O)c1ccccc1.C=O.CNC>>CN(C)CCC(=O)c1ccccc1",
    "O=Cc1ccccc1.CCOC(=O)CC(=O)OCC>>CCOC(=O)C(=Cc1ccccc1)C(=O)OCC",
    # Wittig, Grignard, Friedel-Crafts, nitration
    "O=Cc1ccccc1.C=P(c1ccccc1)(c1ccccc1)c1ccccc1>>C=Cc1ccccc1",
    "C[Mg]Br.CC(C)=O>>CC(C)(C)O",
    "CC(=O)Cl.c1ccccc1>>CC(=O)c1ccccc1",
    "c1ccccc1.O[N+](=O)[O-]>>O=[N+]([O-])c1ccccc1",
    # esterification, saponification, amide, sulfonamide, Boc protection
    "CC(=O)O.CCO>>CC(=O)OCC",
    "CCOC(=O)c1ccccc1.[OH-]>>[O-]C(=O)c1ccccc1",
    "OC(=O)c1ccccc1.NCc1ccccc1>>O=C(NCc1ccccc1)c1ccccc1",
    "Cc1ccc(S(=O)(=O)Cl)cc1.Nc1ccccc1>>Cc1ccc(S(=O)(=O)Nc2ccccc2)cc1",
    "NCc1ccccc1.CC(C)(C)OC(=O)OC(=O)OC(C)(C)C>>CC(C)(C)OC(=O)NCc1ccccc1",
    # Williamson's ether, a nitrile by substitution, Sandmeyer, reductive amination
    "[Na+].[O-]c1ccccc1.CCBr>>CCOc1ccccc1",
    "CCCCBr.[C-]#N>>CCCCC#N",
    "N#[N+]c1ccccc1.[Br-]>>Brc1ccccc1",
    "O=Cc1ccccc1.CN>>CNCc1ccccc1",
    # Baeyer-Villiger, epoxidation, Beckmann, hydrogenation
    "O=C1CCCCC1.OOC(=O)c1cccc(Cl)c1>>O=C1CCCCCO1",
    "C1=CCCCC1.OOC(=O)c1cccc(Cl)c1>>C1CCC2OC2C1",
    "ON=C1CCCCC1>>O=C1CCCCCN1",
    "C=Cc1ccccc1.[H][H]>>CCc1ccccc1",
)


def mixture(reactions: int) -> str:
    """The first so many reactions as one: all their reactants, then all their products. A reaction has about 45 tokens.

    Raises:
        ValueError: there are not so many.
    """
    if not 1 <= reactions <= len(REACTIONS):
        raise ValueError(f"reactions must be 1 to {len(REACTIONS)}, got {reactions}")
    sides = [reaction.split(">>") for reaction in REACTIONS[:reactions]]
    return ">>".join(".".join(side) for side in zip(*sides, strict=True))


def english() -> str:
    """The language reference that Python's ``help()`` prints: half a million characters, other ones in each version."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def digest(text: str) -> str:
    """The SHA-256 of the text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
