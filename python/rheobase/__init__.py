"""Rheobase: conversion of artificial neural networks to spiking ones with calibrated offset spikes."""
